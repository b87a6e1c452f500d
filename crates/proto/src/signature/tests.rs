use base64::Engine as _;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::limits::SIGNATURE_SKEW_MAX_S;

const TARGET: RequestTarget<'static> = RequestTarget {
    method: "POST",
    authority: "issuer.example",
    path: "/v1/payments",
    query: None,
};
const SECRET: [u8; 32] = [7; 32];
const SESSION_ID: &str = "ses_01h455vb4pex5vsknk084sn02q";
const SESSION: SigningKey<'static> = SigningKey::Session { keyid: SESSION_ID, secret: &SECRET };

fn key() -> PrivateKey {
    PrivateKey::from_bytes(&[3; 32]).unwrap()
}

fn no_header(_: &str) -> Option<&'static str> {
    None
}

fn parse(signed: &Signed) -> ReceivedSignature {
    ReceivedSignature::parse(&signed.signature_input, &signed.signature).unwrap()
}

fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Reads, checks and verifies a request in the session.
fn holds(
    input: &str,
    signature: &str,
    target: &RequestTarget<'_>,
    digest: Option<&str>,
) -> Result<(), SignatureError> {
    let received = ReceivedSignature::parse(input, signature)?;
    let base = received.check_request(target, digest, no_header)?;
    received.verify_with_secret(&base, &SECRET)
}

#[test]
fn a_request_signed_by_a_key_or_in_a_session_is_verified() {
    let digest = content_digest(b"{}");
    let (key, other) = (key(), PrivateKey::from_bytes(&[4; 32]).unwrap());
    for digest in [None, Some(digest.as_str())] {
        let signed = sign_request(&TARGET, digest, SigningKey::Identity(&key), 1000, "n1");
        let received = parse(&signed);
        assert_eq!(received.key_id(), &KeyId::Thumbprint(key.thumbprint()));
        assert_eq!(received.label_and_bytes(), signed.label_and_bytes());
        let base = received.check_request(&TARGET, digest, no_header).unwrap();
        assert_eq!(received.verify_with_key(&base, key.public()), Ok(()));
        let wrong = received.verify_with_key(&format!("{base} "), key.public());
        assert_eq!(wrong, Err(SignatureError::Wrong));
        let wrong = received.verify_with_key(&base, other.public());
        assert_eq!(wrong, Err(SignatureError::OtherKey));
        assert_eq!(received.verify_with_secret(&base, &SECRET), Err(SignatureError::OtherKey));

        let signed = sign_request(&TARGET, digest, SESSION, 1000, "n1");
        let received = parse(&signed);
        assert_eq!(received.key_id(), &KeyId::Session(SESSION_ID.to_owned()));
        assert_eq!(received.label_and_bytes(), signed.label_and_bytes());
        let base = received.check_request(&TARGET, digest, no_header).unwrap();
        assert_eq!(received.verify_with_secret(&base, &SECRET), Ok(()));
        assert_eq!(received.verify_with_secret(&base, &[8; 32]), Err(SignatureError::Wrong));
        let wrong = received.verify_with_key(&base, key.public());
        assert_eq!(wrong, Err(SignatureError::OtherKey));
    }
}

#[test]
fn what_is_read_is_what_was_sent() {
    let input = concat!(
        r#"proxy=("@method");created=7;tag="proxy", "#,
        r#"mine=("x-a" "@query" "@path" "@authority" "@method");expires=99;tag="warifu";"#,
        r#"alg="hmac-sha256";keyid="ses_01h455vb4pex5vsknk084sn02q";other=?0;nonce="a\"b";created=9"#
    );
    let signature = format!("mine=:{}:, proxy=:AAAA:;x=1", base64(&[1; 32]));
    let received = ReceivedSignature::parse(input, &signature).unwrap();
    assert_eq!(received.label(), "mine");
    assert_eq!(received.alg(), Some("hmac-sha256"));
    assert_eq!((received.created_s(), received.expires_s()), (9, Some(99)));
    assert_eq!(received.nonce(), Some(r#"a\"b"#));
    assert_eq!(received.bytes(), [1; 32]);
    let names: Vec<&str> = received.components().map(|it| it.name()).collect();
    assert_eq!(names, ["x-a", "@query", "@path", "@authority", "@method"]);
    assert_eq!(received.signature_params(), input.split_once("mine=").unwrap().1);
    // A header map gives lines, another caller a joined value: both are the same text in the base.
    let lines = |_: &str| vec![" one\t".as_bytes(), b"two, three".as_slice()];
    let base = received.check_request(&TARGET, None, lines).unwrap();
    let joined = |name: &str| (name == "x-a").then(|| "one, two, three ".to_owned());
    assert_eq!(received.check_request(&TARGET, None, joined).as_ref(), Ok(&base));
    let expected = format!(
        "\"x-a\": one, two, three\n\"@query\": ?\n\"@path\": /v1/payments\n\"@authority\": issuer.example\n\
         \"@method\": POST\n\"@signature-params\": {}",
        received.signature_params()
    );
    assert_eq!(base, expected);
}

#[test]
fn the_length_of_a_key_id_tells_a_thumbprint_from_a_session() {
    let thumbprint = format!("ses_{}", "A".repeat(39));
    let input = format!(r#"s=();created=1;keyid="{thumbprint}";tag="warifu""#);
    let signature = format!("s=:{}:", base64(&[0; 64]));
    let received = ReceivedSignature::parse(&input, &signature).unwrap();
    let expected = key::Thumbprint::parse(&thumbprint).unwrap();
    assert_eq!(received.key_id(), &KeyId::Thumbprint(expected));
}

#[test]
fn an_answer_is_bound_to_its_request() {
    let request = sign_request(&TARGET, None, SESSION, 1000, "n1");
    let other = sign_request(&TARGET, None, SESSION, 1000, "n2");
    let bound = Some(request.label_and_bytes());
    let key = key();
    let identity = SigningKey::Identity(&key);
    let answer = parse(&sign_answer(200, Some("d"), &TARGET, bound, identity, 1001));
    let holds = |status, digest, target: &RequestTarget<'_>, bound| {
        let base = answer.check_answer(status, digest, target, bound, no_header)?;
        answer.verify_with_key(&base, key.public())
    };
    assert_eq!(holds(200, Some("d"), &TARGET, bound), Ok(()));
    let wrong = Err(SignatureError::Wrong);
    assert_eq!(holds(201, Some("d"), &TARGET, bound), wrong);
    assert_eq!(holds(200, Some("e"), &TARGET, bound), wrong);
    assert_eq!(holds(200, Some("d"), &RequestTarget { path: "/", ..TARGET }, bound), wrong);
    assert_eq!(holds(200, Some("d"), &TARGET, Some(other.label_and_bytes())), wrong);
    let renamed = Some(("other", request.label_and_bytes().1));
    let not_bound = holds(200, Some("d"), &TARGET, renamed);
    assert!(matches!(not_bound, Err(SignatureError::NotCovered(_))), "{not_bound:?}");
    // The answer to a signed request is no answer to the same request unsigned, nor the other way round.
    assert_eq!(holds(200, Some("d"), &TARGET, None), Err(SignatureError::MissingField));
    let loose = parse(&sign_answer(200, Some("d"), &TARGET, None, identity, 1001));
    let unbound = loose.check_answer(200, Some("d"), &TARGET, bound, no_header);
    assert!(matches!(unbound, Err(SignatureError::NotCovered(_))), "{unbound:?}");
    let base = loose.check_answer(200, Some("d"), &TARGET, None, no_header).unwrap();
    assert_eq!(loose.verify_with_key(&base, key.public()), Ok(()));
    // A digest that was signed can't be taken away.
    assert_eq!(holds(200, None, &TARGET, bound), Err(SignatureError::MissingField));
}

#[test]
fn an_answer_without_content_has_no_digest_and_cannot_be_given_one() {
    let answer = parse(&sign_answer(204, None, &TARGET, None, SESSION, 1001));
    let base = answer.check_answer(204, None, &TARGET, None, no_header).unwrap();
    assert_eq!(answer.verify_with_secret(&base, &SECRET), Ok(()));
    let given = answer.check_answer(204, Some("d"), &TARGET, None, no_header);
    assert_eq!(given, Err(SignatureError::NotCovered("\"content-digest\"")));
}

#[test]
fn what_a_string_cannot_carry_is_escaped_or_left_out() {
    let signed = sign_request(&TARGET, None, SESSION, 1, "a\"b\\c\r\nd\u{e9}");
    assert!(signed.signature_input.contains(r#";nonce="a\"b\\cd";"#), "{signed:?}");
    assert_eq!(holds(&signed.signature_input, &signed.signature, &TARGET, None), Ok(()));
}

#[test]
fn a_secret_is_not_printed() {
    assert_eq!(format!("{SESSION:?}"), format!("SigningKey(Session {SESSION_ID})"));
}

#[test]
fn the_longest_of_ours_are_far_below_the_bounds() {
    let target = RequestTarget { query: Some("x"), ..TARGET };
    let digest = content_digest(b"");
    let key = key();
    let request =
        sign_request(&target, Some(&digest), SigningKey::Identity(&key), 1 << 40, &"n".repeat(64));
    let bound = Some(request.label_and_bytes());
    let answer =
        sign_answer(599, Some(&digest), &target, bound, SigningKey::Identity(&key), 1 << 40);
    for signed in [&request, &answer] {
        assert!(signed.signature_input.len() * 8 < SIGNATURE_INPUT_MAX_BYTES, "{signed:?}");
        assert!(signed.signature.len() <= 94 && digest.len() == 54);
    }
}

/// A request with every part that a fault can be put into. Its parts do not disturb each other, so that a message
/// with several faults shows which one counts.
#[derive(Clone)]
struct Case {
    signature_padding: usize,
    input: Option<&'static str>,
    signature: Option<&'static str>,
    tag: &'static str,
    second: &'static str,
    signature_label: &'static str,
    keyid: String,
    alg: &'static str,
    created: &'static str,
    expires: &'static str,
    length: usize,
    nonce: &'static str,
    method: &'static str,
    further: Vec<&'static str>,
}

impl Case {
    fn good() -> Self {
        Self {
            signature_padding: 0,
            input: None,
            signature: None,
            tag: r#";tag="warifu""#,
            second: "",
            signature_label: "s",
            keyid: key().thumbprint().to_string(),
            alg: r#";alg="ecdsa-p256-sha256""#,
            created: ";created=1",
            expires: ";expires=30",
            length: 64,
            nonce: r#";nonce="n""#,
            method: r#""@method" "#,
            further: Vec::new(),
        }
    }

    fn headers(&self) -> (String, String) {
        let Self { tag, second, keyid, alg, created, expires, nonce, method, .. } = self;
        let further = self.further.join(" ");
        let second = if tag.is_empty() { "" } else { second };
        let input = format!(
            r#"s=({method}"@authority" "@path" "@query" {further}){created};keyid="{keyid}"{alg}{expires}{nonce}{tag}{second}"#
        );
        let signature = format!(
            "{}=:{}:{}",
            self.signature_label,
            base64(&vec![0; self.length]),
            " ".repeat(self.signature_padding)
        );
        (self.input.map_or(input, str::to_owned), self.signature.map_or(signature, str::to_owned))
    }

    fn error(&self) -> Option<SignatureError> {
        let (input, signature) = self.headers();
        let header = |name: &str| (name == "x-folded").then_some("a\r\n b");
        ReceivedSignature::parse(&input, &signature)
            .and_then(|it| it.check_request(&TARGET, None, header))
            .err()
    }
}

/// Where a variant stands, and how many there are: a new variant must be placed here, and gets a row in one of the
/// tables below.
fn place(error: SignatureError) -> usize {
    match error {
        SignatureError::TooLong { .. } => 0,
        SignatureError::MalformedInput => 1,
        SignatureError::MalformedSignature => 2,
        SignatureError::InputSyntax(_) => 3,
        SignatureError::SignatureSyntax(_) => 4,
        SignatureError::NoneTagged => 5,
        SignatureError::SeveralTagged => 6,
        SignatureError::NoSignature => 7,
        SignatureError::KeyId => 8,
        SignatureError::Algorithm => 9,
        SignatureError::Created => 10,
        SignatureError::Expires => 11,
        SignatureError::Length => 12,
        SignatureError::Nonce => 13,
        SignatureError::UnknownComponent => 14,
        SignatureError::ComponentParameter => 15,
        SignatureError::CoveredTwice => 16,
        SignatureError::NotCovered(_) => 17,
        SignatureError::DigestWithoutBody => 18,
        SignatureError::MissingField => 19,
        SignatureError::FieldValue => 20,
        SignatureError::DigestMalformed(_) => 21,
        SignatureError::DigestMissing => 22,
        SignatureError::DigestWrong => 23,
        SignatureError::ClockSkew => 24,
        SignatureError::Expired => 25,
        SignatureError::OtherKey => 26,
        SignatureError::Wrong => 27,
    }
}

#[test]
fn the_faults_of_a_request_are_named_in_order_of_precedence() {
    let faults: [fn(&mut Case); 21] = [
        |it| {
            it.signature_padding = SIGNATURE_MAX_BYTES;
            it.signature = None;
        },
        |it| it.input = Some(""),
        |it| it.signature = Some(""),
        |it| it.input = Some("s=("),
        |it| it.signature = Some("s=?1"),
        |it| it.tag = "",
        |it| it.second = r#", t=("@path");tag="warifu", u=();tag="warifu""#,
        |it| it.signature_label = "t",
        |it| it.keyid = "somebody".to_owned(),
        |it| it.alg = r#";alg="hmac-sha256""#,
        |it| it.created = ";created=-1",
        |it| it.expires = ";expires=1.5",
        |it| it.length = 63,
        |it| it.nonce = "",
        |it| it.further.push(r#""@target-uri""#),
        |it| it.further.push(r#""date";sf"#),
        |it| it.further.push(r#""@path""#),
        |it| it.method = "",
        |it| it.further.push(r#""content-digest""#),
        |it| it.further.push(r#""x-missing""#),
        |it| it.further.push(r#""x-folded""#),
    ];
    assert_eq!(Case::good().error(), None);
    for (at, fault) in faults.iter().enumerate() {
        let mut alone = Case::good();
        fault(&mut alone);
        let error = alone.error().unwrap();
        assert_eq!(place(error), at, "{error:?}");
        // With every later fault in it as well, written last to first.
        let mut all = Case::good();
        faults.iter().skip(at).rev().for_each(|fault| fault(&mut all));
        let error = all.error().unwrap();
        assert_eq!(place(error), at, "{error:?} came first");
    }
}

#[test]
fn the_faults_of_a_digest_are_named_in_order_of_precedence() {
    let right = content_digest(b"{}");
    let long = format!("{right}{}", " ".repeat(CONTENT_DIGEST_MAX_BYTES));
    let rows = [
        (long.as_str(), Some(0)),
        ("sha-256=:AA", Some(21)),
        ("sha-512=:AAAA:,", Some(21)),
        ("sha-256=1", Some(21)),
        ("sha-256=:AAAA:, sha-256=:AAAA:", Some(21)),
        ("sha-256=:A:", Some(21)),
        ("sha-256=:AAA=A:", Some(21)),
        ("sha-256=:AAAA=:", Some(21)),
        ("", Some(22)),
        ("sha-512=:AAAA:, md5=x", Some(22)),
        ("sha-256=::", Some(23)),
        ("sha-256=:AAAA:", Some(23)),
        (&right[..right.len() - 4], Some(21)),
        (&right, None),
    ];
    for (header, expected) in rows {
        let found = check_content_digest(header, b"{}");
        assert_eq!(found.err().map(place), expected, "{header}");
        assert_eq!(content_digest_matches(header, b"{}"), expected.is_none(), "{header}");
    }
    assert_eq!(check_content_digest(&right, b"{ }"), Err(SignatureError::DigestWrong));
    // Others' algorithms, of whatever type, and parameters are ignored; padding may be missing.
    let unpadded = right.replace('=', "").replace("sha-256", "sha-256=");
    for fine in [
        format!("{right};p=1"),
        format!("unixsum=(1 2);x, a, b=?0, c=1.5, d=@9, e=%\"%c3%a9\", f=tok/en, {right}"),
        format!("{right},\t sha-512=:AAAA:"),
        unpadded,
    ] {
        assert_eq!(check_content_digest(&fine, b"{}"), Ok(()), "{fine}");
    }
}

#[test]
fn the_faults_of_time_and_key_are_named_in_order_of_precedence() {
    let (input, signature) = Case::good().headers();
    let received = ReceivedSignature::parse(&input, &signature).unwrap();
    let late = 1 + SIGNATURE_SKEW_MAX_S;
    let place_at = |now_s| received.check_created(now_s).err().map(place);
    assert_eq!(place_at(late + 1), Some(24));
    assert_eq!([place_at(late), place_at(30)], [Some(25); 2]);
    assert_eq!([place_at(29), place_at(0)], [None; 2]);
    let ahead = input.replace("created=1", "created=100").replace(";expires=30", "");
    let received = ReceivedSignature::parse(&ahead, &signature).unwrap();
    assert_eq!(received.check_created(99 - SIGNATURE_SKEW_MAX_S).err().map(place), Some(24));
    assert_eq!(received.check_created(100 - SIGNATURE_SKEW_MAX_S), Ok(()));
    let other = PrivateKey::from_bytes(&[4; 32]).unwrap();
    assert_eq!(received.verify_with_key("", other.public()).err().map(place), Some(26));
    assert_eq!(received.verify_with_key("", key().public()).err().map(place), Some(27));
}

#[test]
fn an_answer_must_cover_what_binds_it() {
    let request = sign_request(&TARGET, None, SESSION, 1, "n");
    let bound = Some(request.label_and_bytes());
    let all = [
        r#""@status""#,
        r#""@method";req"#,
        r#""@authority";req"#,
        r#""@path";req"#,
        r#""@query";req"#,
        r#""content-digest""#,
        r#""signature";req;key="sig""#,
    ];
    let check = |components: &[&str]| {
        let input =
            format!(r#"a=({});created=1;keyid="{SESSION_ID}";tag="warifu""#, components.join(" "));
        let signature = format!("a=:{}:", base64(&[0; 32]));
        let header = |name: &str| (name == "content-type").then_some("application/json");
        ReceivedSignature::parse(&input, &signature).unwrap().check_answer(
            200,
            Some("d"),
            &TARGET,
            bound,
            header,
        )
    };
    assert!(check(&all).is_ok());
    for left_out in 0..all.len() {
        let mut rest = all.to_vec();
        rest.remove(left_out);
        let error = check(&rest).unwrap_err();
        assert_eq!(place(error), 17, "{error}");
    }
    let with = |further| check(&[&all[..], &[further]].concat()).err().map(place);
    assert_eq!(with(r#""content-type""#), None);
    // The order of parameters is part of the base, and not of what is meant.
    assert_eq!(with(r#""signature";key="sig";req"#), Some(16));
    for (further, expected) in [
        (r#""@method""#, 14),
        (r#""@status";req"#, 14),
        (r#""@request-target";req"#, 14),
        (r#""@Path";req"#, 14),
        (r#""""#, 14),
        (r#""Content-Type""#, 14),
        (r#""content-type";req"#, 15),
        (r#""content-type";bs"#, 15),
        (r#""content-digest";key="sha-256""#, 15),
        (r#""signature";key="sig""#, 15),
        (r#""signature";req;key="sig";tr"#, 15),
        (r#""signature";req=?0;key="sig""#, 15),
        (r#""@path";req;x"#, 15),
        (r#""@path";req"#, 16),
        (r#""date""#, 19),
        (r#""signature";req;key="other""#, 19),
    ] {
        assert_eq!(with(further), Some(expected), "{further}");
    }
}

#[test]
fn only_structured_fields_are_read() {
    let rest = format!(r#";created=1;keyid="{SESSION_ID}";nonce="n";tag="warifu""#);
    let signature = format!("s=:{}:", base64(&[0; 32]));
    let read = |input: &str| ReceivedSignature::parse(input, &signature).err();
    let good = |list: &str| format!("s=({list}){rest}");
    for fine in [
        good(""),
        good(r#"  "a"   "b" "#),
        good(r#""a"; req;key="x";sf;bs=?1;name="a%20b";n=-12.5;t=tok:en/*;b=:AA==:;d=@-1;s=%"é""#)
            .replace('é', "%c3%a9"),
        format!(" {}  ", good(r#""a""#)),
        format!("*x-1.b_c=();v=*;w=?0\t,\t{}", good("")),
    ] {
        assert_eq!(read(&fine), None, "{fine}");
    }
    let many = |count: usize| (0..count).map(|it| format!("\"c{it}\"")).collect::<Vec<_>>();
    assert_eq!(read(&good(&many(32).join(" "))), None);
    let keys = |count: usize| (0..count).map(|it| format!("k{it}=(), ")).collect::<String>();
    assert_eq!(read(&format!("{}{}", keys(15), good(""))), None);
    for bad in [
        good(&many(33).join(" ")),
        format!("{}{}", keys(16), good("")),
        format!("{},", good("")),
        format!("{} x", good("")),
        format!("{};", good("")),
        format!("{};;a", good("")),
        format!("\t{}", good("")),
        format!("{}, s=()", good("")),
        format!(r#"{};tag="x""#, good("")),
        format!("{};x;x", good("")),
        format!("S={}", &good("")[2..]),
        format!("{}, x", good("")),
        format!("{}, x=1", good("")),
        format!(r#"{}, x=(a)"#, good("")),
        good(r#""a""b""#),
        good("\"a\"\t\"b\""),
        good(r#""a" b"#),
        good(r#""a\n""#),
        good(r#""é""#),
        good("\"\u{7f}\""),
        good(r#""a"=1"#),
        good(r#""a";1"#),
        good(r#""a";b=1234567890123456"#),
        good(r#""a";b=1234567890123.1"#),
        good(r#""a";b=1."#),
        good(r#""a";b=1.2345"#),
        good(r#""a";b=-"#),
        good(r#""a";b=--1"#),
        good(r#""a";b=?2"#),
        good(r#""a";b=:A:"#),
        good(r#""a";b=:AA=:"#),
        good(r#""a";b=:AA-_:"#),
        good(r#""a";b=@1.0"#),
        good(r#""a";b=%"%C3%A9""#),
        good(r#""a";b=%"%c3""#),
        good(r#""a";b=%"%c"#),
        good(r#""a";b="#),
        format!("s=(\"a\"{}", &rest[..5]),
        "s=(\"a".to_owned(),
        "s".to_owned(),
        "s=".to_owned(),
        "=".to_owned(),
        "é=()".to_owned(),
    ] {
        let found = read(&bad);
        assert!(matches!(found, Some(SignatureError::InputSyntax(_))), "{bad}: {found:?}");
    }
    // Where reading stopped is told.
    let told = read("s=(\"a\" b)").unwrap().to_string();
    let why = "a component must be a string in quotes (at byte 7)";
    assert_eq!(told, format!("signature-input is malformed: {why}"));
}

#[test]
fn no_parameter_of_ours_is_taken_in_another_type() {
    let signature = format!("s=:{}:", base64(&[0; 32]));
    let read = |name: &str, value: &str| {
        let mut parameters = [
            ("created", "1".to_owned()),
            ("expires", "2".to_owned()),
            ("keyid", format!("\"{SESSION_ID}\"")),
            ("alg", "\"hmac-sha256\"".to_owned()),
            ("nonce", "\"n\"".to_owned()),
            ("tag", "\"warifu\"".to_owned()),
        ];
        parameters.iter_mut().filter(|it| it.0 == name).for_each(|it| value.clone_into(&mut it.1));
        let text: String = parameters.iter().map(|(name, it)| format!(";{name}={it}")).collect();
        ReceivedSignature::parse(&format!("s=(){text}"), &signature).err().map(place)
    };
    assert_eq!(read("", ""), None);
    for (name, expected) in
        [("created", 10), ("expires", 11), ("keyid", 8), ("alg", 9), ("nonce", 13), ("tag", 5)]
    {
        for other in ["token", "1.0", "@1", "?1", ":AAAA:", "%\"x\"", "-1"] {
            assert_eq!(read(name, other), Some(expected), "{name}={other}");
        }
    }
    for keyid in ["", "ses_", "ses_01H455VB4PEX5VSKNK084SN02Q", "ses_81h455vb4pex5vsknk084sn02q"] {
        assert_eq!(read("keyid", &format!("\"{keyid}\"")), Some(8), "{keyid}");
    }
    for keyid in ["mer_01h455vb4pex5vsknk084sn02q", &"+".repeat(43), &"A".repeat(42)] {
        assert_eq!(read("keyid", &format!("\"{keyid}\"")), Some(8), "{keyid}");
    }
    assert_eq!(read("keyid", &format!("\"{}\"", "A".repeat(43))), Some(9), "alg is of a session");
    assert_eq!(read("nonce", "\"\""), Some(13));
}

#[test]
fn the_base_builder_knows_no_profile() {
    let base = |params| {
        signature_base(params, |it, base| {
            base.push_str(if it.has_other_parameter() { ":AA==:" } else { it.name() });
            Ok(())
        })
    };
    let expected = "\"a\";bs: :AA==:\n\"b\";req: b\n\"@signature-params\": (\"a\";bs \"b\";req);x";
    assert_eq!(base(r#"("a";bs "b";req);x"#).as_deref(), Ok(expected));
    assert_eq!(base("()").as_deref(), Ok("\"@signature-params\": ()"));
    assert_eq!(base(r#"("a" "a")"#), Err(SignatureError::CoveredTwice));
    assert_eq!(base(r#"("a";bs "a";bs)"#), Err(SignatureError::CoveredTwice));
    assert!(matches!(base(r#"("a"), b=()"#), Err(SignatureError::InputSyntax(_))));
    let folded = signature_base(r#"("a")"#, |_, base| {
        base.push('\n');
        Ok(())
    });
    assert_eq!(folded, Err(SignatureError::FieldValue));
}

/// Text that can stand in a request's line.
const VISIBLE: &str = "[!-~]{1,24}";

/// The text with one byte replaced by another printable one.
fn with_one_byte_changed(text: &str, at: Index, by: u8) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let at = at.index(bytes.len());
    // 95 printable characters: adding 1 to 94 steps always gives another one.
    bytes[at] = b' ' + (bytes[at] - b' ' + 1 + by % 94) % 95;
    String::from_utf8(bytes).unwrap()
}

proptest! {
    #[test]
    fn what_is_signed_verifies_and_one_changed_byte_does_not(
        parts in (VISIBLE, VISIBLE, VISIBLE, VISIBLE, VISIBLE),
        nonce in "[ -~]{1,24}",
        created in 1_u64..999_999_999_999_999,
        (has_query, has_body) in (any::<bool>(), any::<bool>()),
        change in 0..7_usize,
        (at, by) in (any::<Index>(), any::<u8>()),
    ) {
        let (method, authority, path, query, digest) = &parts;
        let target =
            RequestTarget { method, authority, path, query: has_query.then_some(query.as_str()) };
        let digest = has_body.then_some(digest.as_str());
        let signed = sign_request(&target, digest, SESSION, created, &nonce);
        let Signed { signature_input: input, signature, .. } = &signed;
        prop_assert_eq!(holds(input, signature, &target, digest), Ok(()));
        let changed = |text: &str| with_one_byte_changed(text, at, by);
        let found = match change {
            0 => holds(input, signature, &RequestTarget { method: &changed(method), ..target }, digest),
            1 => holds(input, signature, &RequestTarget { authority: &changed(authority), ..target }, digest),
            2 => holds(input, signature, &RequestTarget { path: &changed(path), ..target }, digest),
            3 => {
                let other = if has_query { changed(query) } else { "x".to_owned() };
                holds(input, signature, &RequestTarget { query: Some(&other), ..target }, digest)
            }
            4 => match digest {
                Some(digest) => holds(input, signature, &target, Some(&changed(digest))),
                None => holds(input, signature, &target, Some("x")),
            },
            // The components, created, the key id, the nonce, the tag, and all that stands between them.
            5 => holds(&changed(input), signature, &target, digest),
            _ => {
                let mut bytes = signed.label_and_bytes().1.to_vec();
                bytes[at.index(32)] ^= by | 1;
                holds(input, &format!("sig=:{}:", base64(&bytes)), &target, digest)
            }
        };
        prop_assert!(found.is_err(), "change {} was not noticed", change);
        if matches!(change, 0..=3) {
            prop_assert_eq!(found, Err(SignatureError::Wrong));
        }
    }

    #[test]
    fn an_answer_verifies_for_its_own_request_only(
        (path, query, digest) in (VISIBLE, VISIBLE, VISIBLE),
        (status, created) in (100_u16..600, 1_u64..999_999_999_999_999),
        (is_signed, has_content) in (any::<bool>(), any::<bool>()),
        change in 0..4_usize,
        (at, by) in (any::<Index>(), any::<u8>()),
    ) {
        let target = RequestTarget { path: &path, query: Some(&query), ..TARGET };
        let digest = has_content.then_some(digest.as_str());
        let request = sign_request(&target, None, SESSION, created, "n");
        let bound = is_signed.then(|| request.label_and_bytes());
        let signed = sign_answer(status, digest, &target, bound, SESSION, created);
        let holds = |input: &str, status, digest, target: &RequestTarget<'_>, bound| {
            let received = ReceivedSignature::parse(input, &signed.signature)?;
            let base = received.check_answer(status, digest, target, bound, no_header)?;
            received.verify_with_secret(&base, &SECRET)
        };
        let input = signed.signature_input.as_str();
        prop_assert_eq!(holds(input, status, digest, &target, bound), Ok(()));
        let found = match change {
            0 => holds(input, status ^ (u16::from(by) | 1), digest, &target, bound),
            1 => {
                let path = with_one_byte_changed(&path, at, by);
                holds(input, status, digest, &RequestTarget { path: &path, ..target }, bound)
            }
            2 => {
                let mut bytes = request.label_and_bytes().1.to_vec();
                bytes[at.index(32)] ^= by | 1;
                let other = Some(("sig", bytes.as_slice()));
                holds(input, status, digest, &target, other)
            }
            _ => holds(&with_one_byte_changed(input, at, by), status, digest, &target, bound),
        };
        prop_assert!(found.is_err(), "change {} was not noticed", change);
    }

    #[test]
    fn no_header_panics(
        any_input in "\\PC{0,200}",
        any_signature in "\\PC{0,100}",
        almost in r#"[a-c]=\((("[@a-z-]{0,9}"|[0-9a]|:[A/=]{0,4}:)(;[a-z]{1,3}(="?[a-z%\\]{0,3}"?)?)? ?){0,3}\)(; ?[a-z]{1,7}=("[a-z]{0,9}"|[0-9.-]{1,4}|\?[0-2]|@1|%"(%[0-9a-f]{2}){0,3}")){0,4}(, ?[a-c]=\(\))?"#,
        (at, byte) in (any::<Index>(), any::<char>()),
        (cut, keep) in (any::<Index>(), any::<bool>()),
    ) {
        let signed = sign_request(&TARGET, Some("d"), SESSION, 1, "n");
        let mut spoilt: Vec<char> = signed.signature_input.chars().collect();
        let at = at.index(spoilt.len());
        spoilt[at] = byte;
        if keep {
            spoilt.truncate(cut.index(spoilt.len()));
        }
        let spoilt: String = spoilt.into_iter().collect();
        for input in [&any_input, &almost, &spoilt, &signed.signature_input] {
            for signature in [&any_signature, &almost, &signed.signature] {
                if let Ok(it) = ReceivedSignature::parse(input, signature) {
                    let _base = it.check_request(&TARGET, Some(signature), |_| Some(&any_signature));
                    let _base = it.check_answer(0, None, &TARGET, Some((input, b"")), |_| [&input]);
                    let _of = it.check_created(u64::MAX);
                }
                let _found = content_digest_matches(input, signature.as_bytes());
            }
            let params = input.split_once('=').map_or(input.as_str(), |(_, it)| it);
            let _base = signature_base(params, |_, base| { base.push_str(input); Ok(()) });
        }
        let target = RequestTarget { method: &any_input, path: &almost, ..TARGET };
        let _signed = sign_request(&target, Some(&any_signature), SESSION, u64::MAX, &any_input);
        let label = (almost.as_str(), any_input.as_bytes());
        let _signed = sign_answer(0, None, &target, Some(label), SESSION, u64::MAX);
    }
}
