//! Pictures that the terminal draws are read back by the reader, and by zbar, which shares no code with it.
#![allow(
    clippy::unwrap_used,
    reason = "the lint knows test functions, not the helpers of a test file"
)]

use std::io::Cursor;
use std::path::Path;
use std::process::Command;

use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgba, RgbaImage, imageops};
use warifu_reader::scan::{ScanError, digits_in_image};
use warifu_terminal::picture::{Colours, Picture, Symbology};

const CODE: &str = "710000010312345678901234";

/// Digits of that length without a period, so that a lost or doubled group shows.
fn digits(length: usize) -> String {
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from_digit((state >> 16) % 10, 10).unwrap()
    };
    (0..length).map(|_| next()).collect()
}

fn png(symbology: Symbology, digits: &str) -> Vec<u8> {
    let picture = Picture::draw(symbology, digits).unwrap();
    picture.to_png(symbology.default_module_px()).unwrap()
}

fn luma(symbology: Symbology, digits: &str) -> GrayImage {
    image::load_from_memory(&png(symbology, digits)).unwrap().into_luma8()
}

fn file(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.into().write_to(&mut Cursor::new(&mut bytes), format).unwrap();
    bytes
}

fn render(result: &Result<String, ScanError>) -> String {
    match result {
        Ok(digits) => digits.clone(),
        Err(ScanError::TooLarge) => "too_large".to_owned(),
        Err(ScanError::NotAnImage(_)) => "not_an_image".to_owned(),
        Err(ScanError::NoCode) => "no_code".to_owned(),
        Err(ScanError::NotOurs { codes }) => format!("not_ours {codes}"),
    }
}

#[track_caller]
fn check(bytes: &[u8], want: &str) {
    assert_eq!(render(&digits_in_image(bytes)), want);
}

/// A QR code of any text, 8 px a module.
fn other_qr(text: &str) -> GrayImage {
    let writer = rxing::qrcode::QRCodeWriter;
    let drawn = rxing::Writer::encode(&writer, text, &rxing::BarcodeFormat::QR_CODE, 0, 0).unwrap();
    let small = GrayImage::from_fn(drawn.width(), drawn.height(), |x, y| {
        Luma([if drawn.get(x, y) { 0 } else { 255 }])
    });
    imageops::resize(&small, small.width() * 8, small.height() * 8, imageops::Nearest)
}

fn side_by_side(images: &[GrayImage]) -> GrayImage {
    let width = images.iter().map(|image| image.width() + 120).sum();
    let height = images.iter().map(|image| image.height() + 120).max().unwrap();
    let mut all = GrayImage::from_pixel(width, height, Luma([255]));
    let mut left = 60;
    for image in images {
        imageops::replace(&mut all, image, left, 60);
        left += i64::from(image.width()) + 120;
    }
    all
}

#[test]
fn what_the_terminal_draws_is_read() {
    check(&png(Symbology::Qr, CODE), CODE);
    check(&png(Symbology::Code128, CODE), CODE);
    for zeros in ["000000000000000000000000", "999999999999999999999999"] {
        check(&png(Symbology::Qr, zeros), zeros);
        check(&png(Symbology::Code128, zeros), zeros);
    }
    let long = digits(333);
    check(&png(Symbology::Qr, &long), &long);
}

#[test]
fn every_code128_symbol_is_read() {
    let pairs: String = (0..108).map(|symbol| format!("{:02}", symbol % 100)).collect();
    for start in (0..pairs.len()).step_by(24) {
        let code = &pairs[start..start + 24];
        check(&png(Symbology::Code128, code), code);
    }
}

#[test]
fn every_scale_is_read() {
    let long = digits(333);
    for (symbology, code) in
        [(Symbology::Qr, CODE), (Symbology::Qr, &long), (Symbology::Code128, CODE)]
    {
        for module_px in [1, 2, 3, 4, 5, 16, 32] {
            check(&Picture::draw(symbology, code).unwrap().to_png(module_px).unwrap(), code);
        }
    }
}

#[test]
fn turned_pictures_are_read() {
    for symbology in [Symbology::Qr, Symbology::Code128] {
        let upright = luma(symbology, CODE);
        check(&file(imageops::rotate90(&upright), ImageFormat::Png), CODE);
        check(&file(imageops::rotate180(&upright), ImageFormat::Png), CODE);
        check(&file(imageops::rotate270(&upright), ImageFormat::Png), CODE);
    }
}

#[test]
fn jpeg_inverted_and_transparent_pictures_are_read() {
    for symbology in [Symbology::Qr, Symbology::Code128] {
        let upright = luma(symbology, CODE);
        check(&file(upright.clone(), ImageFormat::Jpeg), CODE);

        let mut inverted = upright.clone();
        imageops::invert(&mut inverted);
        check(&file(inverted, ImageFormat::Png), CODE);

        let transparent = RgbaImage::from_fn(upright.width(), upright.height(), |x, y| {
            Rgba([0, 0, 0, 255 - upright.get_pixel(x, y).0[0]])
        });
        check(&file(transparent, ImageFormat::Png), CODE);
    }
}

#[test]
fn codes_in_large_pictures_are_read() {
    for symbology in [Symbology::Qr, Symbology::Code128] {
        // A phone's screen as it is, and a camera's 12 megapixels, which are halved.
        for (width, height, module_px) in [(1_440, 3_120, 3), (4_000, 3_000, 7)] {
            let drawn = Picture::draw(symbology, CODE).unwrap().to_png(module_px).unwrap();
            let drawn = image::load_from_memory(&drawn).unwrap().into_luma8();
            let mut screen = GrayImage::from_pixel(width, height, Luma([236]));
            imageops::replace(&mut screen, &drawn, 601, 2_203);
            check(&file(screen, ImageFormat::Png), CODE);
        }
    }
}

#[test]
fn terminal_text_is_read() {
    let long = digits(333);
    for code in [CODE, &long] {
        let text = Picture::qr(code).unwrap().to_terminal(Colours::PlainOnLight).unwrap();
        let lines: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
        // As a terminal shows it: a character is 8 × 17 px, so that a module is not quite a square.
        let (width, height) = (lines[0].len() as u32 * 8, lines.len() as u32 * 17);
        let shown = GrayImage::from_fn(width, height, |x, y| {
            let is_inked = match lines[y as usize / 17][x as usize / 8] {
                '█' => true,
                '▀' => y % 17 < 8,
                '▄' => y % 17 >= 8,
                _ => false,
            };
            Luma([if is_inked { 0 } else { 255 }])
        });
        check(&file(shown, ImageFormat::Png), code);
    }
}

#[test]
fn ours_is_found_among_others() {
    let other = other_qr("https://example.com/menu");
    let both = side_by_side(&[other.clone(), luma(Symbology::Qr, CODE)]);
    check(&file(both, ImageFormat::Png), CODE);
    let both = side_by_side(&[luma(Symbology::Code128, CODE), other]);
    check(&file(both, ImageFormat::Png), CODE);
}

#[test]
fn others_are_counted() {
    let (one, two) = (other_qr("https://example.com/menu"), other_qr("7100000103123456789012345"));
    check(&file(one.clone(), ImageFormat::Png), "not_ours 1");
    check(&file(two.clone(), ImageFormat::Png), "not_ours 1"); // 25 digits
    check(&file(side_by_side(&[one.clone(), two]), ImageFormat::Png), "not_ours 2");
    check(&file(side_by_side(&[one.clone(), one]), ImageFormat::Png), "not_ours 1");
    check(&file(other_qr(&format!(" {CODE}\r\n")), ImageFormat::Png), CODE);
    check(&file(other_qr("７１０００００１"), ImageFormat::Png), "not_ours 1"); // 24 bytes
}

#[test]
fn what_is_no_picture_or_shows_no_code_is_told_apart() {
    check(b"", "not_an_image");
    check(b"710000010312345678901234", "not_an_image");
    check(b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", "not_an_image");
    check(b"\x89PNG\r\n\x1a\n", "not_an_image");
    let whole = png(Symbology::Qr, CODE);
    check(&whole[..whole.len() / 2], "not_an_image");

    check(&file(GrayImage::from_pixel(1, 1, Luma([255])), ImageFormat::Png), "no_code");
    let white = GrayImage::from_pixel(640, 480, Luma([255]));
    check(&file(white.clone(), ImageFormat::Png), "no_code");
    check(&file(white, ImageFormat::Jpeg), "no_code");
}

#[test]
fn large_pictures_are_refused_by_their_header() {
    check(&vec![0; 12_000_001], "too_large"); // before anybody asks what it is
    check(&vec![0; 12_000_000], "not_an_image");

    // Width and height are the first fields after the signature and the chunk's length and name.
    let with_size = |width: u32, height: u32, bits: u8, colour: u8| {
        let mut header = b"IHDR".to_vec();
        header.extend(width.to_be_bytes());
        header.extend(height.to_be_bytes());
        header.extend([bits, colour, 0, 0, 0]);
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
        bytes.extend(&header);
        bytes.extend(crc32(&header).to_be_bytes());
        bytes.extend(b"\0\0\0\x01IDAT\0");
        bytes
    };
    check(&with_size(8_000, 5_001, 8, 0), "too_large");
    check(&with_size(8_000, 5_000, 8, 0), "not_an_image"); // may be read, and has nothing more
    check(&with_size(u32::MAX >> 1, u32::MAX >> 1, 16, 6), "too_large");
    check(&with_size(8_000, 5_000, 16, 6), "too_large"); // 320 MB
    check(&with_size(16_385, 1, 8, 0), "too_large");
    check(&with_size(1, 16_385, 8, 0), "too_large");
}

#[test]
fn pictures_made_to_be_slow_end() {
    // rxing's own helper enlarges this strip to 729 × 1 458 000 pixels.
    check(&file(GrayImage::from_pixel(1, 2_000, Luma([255])), ImageFormat::Png), "no_code");
    check(&file(GrayImage::from_pixel(16_384, 3, Luma([0])), ImageFormat::Png), "no_code");

    // QR corners of 2 px a module, side by side: nearly four thousand, and rxing's own helper tries all threes.
    let corner = |x: u32, y: u32| match (x.abs_diff(3), y.abs_diff(3)) {
        (0..=1, 0..=1) | (3, 0..=3) | (0..=3, 3) => 0,
        _ => 255,
    };
    let corners = GrayImage::from_fn(1_000, 1_000, |x, y| Luma([corner(x / 2 % 8, y / 2 % 8)]));
    check(&file(corners, ImageFormat::Png), "no_code");
}

/// The check of a PNG chunk, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
        })
    })
}

/// What zbar reads in a picture, or `None` where it is not installed (never in CI).
fn zbar(path: &Path) -> Option<String> {
    match Command::new("zbarimg").args(["-q", "--nodbus", "--raw"]).arg(path).output() {
        Ok(output) => Some(String::from_utf8(output.stdout).unwrap().trim_end().to_owned()),
        Err(error) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "CI needs zbarimg: {error}");
            None
        }
    }
}

#[test]
fn zbar_reads_what_the_terminal_draws() {
    let folder = tempfile::tempdir().unwrap();
    let long = digits(333);
    for (name, symbology, code) in [
        ("qr.png", Symbology::Qr, CODE),
        ("long.png", Symbology::Qr, &long),
        ("code128.png", Symbology::Code128, CODE),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, png(symbology, code)).unwrap();
        let Some(read) = zbar(&path) else {
            eprintln!("SKIPPED: zbarimg is not installed (apt-get install zbar-tools)");
            return;
        };
        assert_eq!(read, code, "{name}");
    }
}
