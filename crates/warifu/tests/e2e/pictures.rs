//! What `terminal show --out` writes is read by a decoder that knows nothing of us.

use std::process::Command;

use crate::harness::{Network, json_of, warifu};

fn zbarimg(picture: &std::path::Path) -> Option<String> {
    match Command::new("zbarimg").args(["-q", "--nodbus", "--raw"]).arg(picture).output() {
        Ok(output) => Some(String::from_utf8(output.stdout).unwrap().trim().to_owned()),
        Err(error) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "zbarimg is missing: {error}");
            eprintln!("skipped: zbarimg is missing (Debian package zbar-tools)");
            None
        }
    }
}

#[test]
fn zbarimg_reads_the_digits_and_the_till_is_paid_by_the_picture() {
    let net = Network::start();
    let (_, link) = net.invite(5_000);
    json_of(net.path(), &["terminal", "link", &link, "--dir", "phone"]);
    for (symbology, picture) in [("qr", "code.png"), ("code128", "bars.png")] {
        let shown = json_of(
            net.path(),
            &[
                "terminal",
                "show",
                "--dir",
                "phone",
                "--once",
                "--symbology",
                symbology,
                "--out",
                picture,
            ],
        );
        let digits = shown["code"].as_str().unwrap();
        if let Some(read) = zbarimg(&net.path().join(picture)) {
            assert_eq!(read, digits);
        }
        let paid = json_of(
            net.path(),
            &["reader", "pay", "--dir", "till", "--amount", "700", "--image", picture],
        );
        assert!(paid.to_string().contains("approved"), "{paid}");
    }
    let svg =
        json_of(net.path(), &["terminal", "show", "--dir", "phone", "--once", "--out", "code.svg"]);
    assert_eq!(svg["out"], "code.svg");
    assert!(std::fs::read_to_string(net.path().join("code.svg")).unwrap().starts_with("<svg"));
    let told = json_of(net.path(), &["terminal", "watch", "--dir", "phone", "--once"]);
    assert!(told.to_string().contains("paid"), "{told}");
    let (code, _, stderr) =
        warifu(net.path(), &["reader", "pay", "--dir", "till", "--amount", "700", "--code", "123"]);
    assert_eq!(code, 1, "{stderr}");
}
