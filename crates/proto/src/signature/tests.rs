use proptest::prelude::*;

use super::*;

const TARGET: RequestTarget<'static> = RequestTarget {
    method: "POST",
    authority: "issuer.example",
    path: "/v1/payments",
    query: None,
};
const SECRET: [u8; 32] = [7; 32];
const SESSION: SigningKey<'static> =
    SigningKey::Session { keyid: "ses_01h455vb4pex5vsknk084sn02q", secret: &SECRET };

fn key() -> PrivateKey {
    PrivateKey::from_bytes(&[3; 32]).unwrap()
}

fn no_header(_: &str) -> Option<String> {
    None
}

fn parse(signed: &Signed) -> ReceivedSignature {
    ReceivedSignature::parse(&signed.signature_input, &signed.signature).unwrap()
}

#[test]
fn the_digest_of_rfc_9530_and_others() {
    // RFC 9530, appendix B.1: the body of the example in its section 2 with a line feed.
    let body = b"{\"hello\": \"world\"}\n";
    assert_eq!(content_digest(body), "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:");
    assert!(content_digest_matches(
        "sha-512=:AAAA:, sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:",
        body
    ));
    for bad in [
        "",
        "sha-256=RK",
        "sha-512=:AAAA:",
        "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:,",
        "sha-256=:AAAA:",
    ] {
        assert!(!content_digest_matches(bad, body), "{bad}");
    }
}

#[test]
fn a_request_signed_by_a_key_or_in_a_session_is_verified() {
    let digest = content_digest(b"{}");
    let key = key();
    for digest in [None, Some(digest.as_str())] {
        let received =
            parse(&sign_request(&TARGET, digest, SigningKey::Identity(&key), 1000, "n1"));
        let base = received.check_request(&TARGET, digest, no_header).unwrap();
        assert_eq!(received.verify_with_key(&base, key.public()), Ok(()));
        assert_eq!(received.verify_with_secret(&base, &SECRET), Err(SignatureError::Wrong));
        let received = parse(&sign_request(&TARGET, digest, SESSION, 1000, "n1"));
        let base = received.check_request(&TARGET, digest, no_header).unwrap();
        assert_eq!(received.verify_with_secret(&base, &SECRET), Ok(()));
        assert_eq!(received.verify_with_secret(&base, &[8; 32]), Err(SignatureError::Wrong));
        assert_eq!(received.verify_with_key(&base, key.public()), Err(SignatureError::Wrong));
    }
}

#[test]
fn the_base_is_what_the_rfc_says() {
    let target = RequestTarget { query: Some("a=1"), ..TARGET };
    let received = parse(&sign_request(&target, Some("sha-256=:AA==:"), SESSION, 5, "n"));
    let base = received.check_request(&target, Some("sha-256=:AA==:"), no_header).unwrap();
    let expected = "\"@method\": POST\n\"@authority\": issuer.example\n\"@path\": /v1/payments\n\"@query\": ?a=1\n\"content-digest\": sha-256=:AA==:\n\"@signature-params\": (\"@method\" \"@authority\" \"@path\" \"@query\" \"content-digest\");created=5;keyid=\"ses_01h455vb4pex5vsknk084sn02q\";nonce=\"n\";tag=\"warifu\"";
    assert_eq!(base, expected);
}

#[test]
fn every_change_of_a_request_breaks_its_signature() {
    let signed = sign_request(&TARGET, Some("d1"), SESSION, 1000, "n1");
    let received = parse(&signed);
    let holds = |target: &RequestTarget<'_>, digest: Option<&str>| {
        received
            .check_request(target, digest, no_header)
            .and_then(|base| received.verify_with_secret(&base, &SECRET))
    };
    assert_eq!(holds(&TARGET, Some("d1")), Ok(()));
    let changed = [
        RequestTarget { method: "PUT", ..TARGET },
        RequestTarget { authority: "other.example", ..TARGET },
        RequestTarget { path: "/v1/payments/", ..TARGET },
        RequestTarget { query: Some("x"), ..TARGET },
    ];
    for target in &changed {
        assert_eq!(holds(target, Some("d1")), Err(SignatureError::Wrong));
    }
    assert_eq!(holds(&TARGET, Some("d2")), Err(SignatureError::Wrong));
    assert_eq!(holds(&TARGET, None), Err(SignatureError::NotCovered));
    for (from, to) in [
        ("created=1000", "created=1001"),
        ("n1", "n2"),
        ("02q", "02r"),
        ("\"@method\" \"@authority\"", "\"@authority\" \"@method\""),
    ] {
        let input = signed.signature_input.replace(from, to);
        let received = ReceivedSignature::parse(&input, &signed.signature).unwrap();
        let base = received.check_request(&TARGET, Some("d1"), no_header).unwrap();
        assert_eq!(
            received.verify_with_secret(&base, &SECRET),
            Err(SignatureError::Wrong),
            "{from}"
        );
    }
}

#[test]
fn answers_are_bound_to_their_request() {
    let request = parse(&sign_request(&TARGET, None, SESSION, 1000, "n1"));
    let bound = Some((request.label(), request.bytes()));
    let key = key();
    let answer =
        parse(&sign_answer(200, Some("d"), &TARGET, bound, SigningKey::Identity(&key), 1001));
    let base = answer.check_answer(200, Some("d"), &TARGET, bound, no_header).unwrap();
    assert_eq!(answer.verify_with_key(&base, key.public()), Ok(()));
    let wrong = |base: Result<String, SignatureError>| {
        base.and_then(|base| answer.verify_with_key(&base, key.public()))
    };
    assert_eq!(
        wrong(answer.check_answer(201, Some("d"), &TARGET, bound, no_header)),
        Err(SignatureError::Wrong)
    );
    let other = parse(&sign_request(&TARGET, None, SESSION, 1000, "n2"));
    assert_eq!(
        wrong(answer.check_answer(
            200,
            Some("d"),
            &TARGET,
            Some(("sig", other.bytes())),
            no_header
        )),
        Err(SignatureError::Wrong)
    );
    assert_eq!(
        wrong(answer.check_answer(200, None, &TARGET, bound, no_header)),
        Err(SignatureError::NotCovered)
    );
    // An answer that leaves the request's signature out is no answer to a signed request.
    let loose =
        parse(&sign_answer(200, Some("d"), &TARGET, None, SigningKey::Identity(&key), 1001));
    assert_eq!(
        loose.check_answer(200, Some("d"), &TARGET, bound, no_header),
        Err(SignatureError::NotCovered)
    );
    let base = loose.check_answer(200, Some("d"), &TARGET, None, no_header).unwrap();
    assert_eq!(loose.verify_with_key(&base, key.public()), Ok(()));
}

#[test]
fn refusals_in_order_of_precedence() {
    let thumbprint = key().thumbprint().to_string();
    let covered = r#"("@method" "@authority" "@path" "@query")"#;
    let ok64 = format!("s=:{}:", STANDARD.encode([0; 64]));
    let check = |input: &str, signature: &str| {
        ReceivedSignature::parse(input, signature)
            .and_then(|it| it.check_request(&TARGET, None, no_header))
            .err()
    };
    let input = |covered: &str, rest: &str| format!(r#"s={covered};{rest};tag="warifu""#);
    let good = format!(r#"created=1;keyid="{thumbprint}";nonce="n""#);
    let rows = [
        ("s=(", ok64.clone(), SignatureError::MalformedInput),
        (
            r#"s=("@method");created=1, s=("@path");created=1"#,
            ok64.clone(),
            SignatureError::MalformedInput,
        ),
        (&input(covered, &good), "s=?".to_owned(), SignatureError::MalformedSignature),
        (&format!("s={covered};{good}"), ok64.clone(), SignatureError::NoneTagged),
        (
            &format!("{}, {}", input(covered, &good), input(covered, &good).replacen('s', "t", 1)),
            ok64.clone(),
            SignatureError::SeveralTagged,
        ),
        (&input(covered, &good), ok64.replacen('s', "t", 1), SignatureError::NoSignature),
        (&input(covered, r#"created=1;nonce="n""#), ok64.clone(), SignatureError::KeyId),
        (&input(covered, r#"created=1;keyid="x";nonce="n""#), ok64.clone(), SignatureError::KeyId),
        (
            &input(covered, &format!(r#"{good};alg="hmac-sha256""#)),
            ok64.clone(),
            SignatureError::Algorithm,
        ),
        (
            &input(covered, &format!(r#"keyid="{thumbprint}";nonce="n""#)),
            ok64.clone(),
            SignatureError::Created,
        ),
        (
            &input(covered, &format!(r#"created=-1;keyid="{thumbprint}";nonce="n""#)),
            ok64.clone(),
            SignatureError::Created,
        ),
        (&input(covered, &good), "s=:AAAA:".to_owned(), SignatureError::Length),
        (
            &input(covered, &format!(r#"created=1;keyid="{thumbprint}""#)),
            ok64.clone(),
            SignatureError::Nonce,
        ),
        (
            &input(r#"("@method" "@authority" "@path")"#, &good),
            ok64.clone(),
            SignatureError::NotCovered,
        ),
        (
            &input(r#"("@method" "@authority" "@path" "@query" "content-digest")"#, &good),
            ok64.clone(),
            SignatureError::NotCovered,
        ),
        (
            &input(r#"("@method" "@authority" "@path" "@query" "@path")"#, &good),
            ok64.clone(),
            SignatureError::CoveredTwice,
        ),
        (
            &input(r#"("@method" "@authority" "@path" "@query" "@target-uri")"#, &good),
            ok64.clone(),
            SignatureError::UnknownComponent,
        ),
        (
            &input(r#"("@method" "@authority" "@path" "@query" "date";sf)"#, &good),
            ok64.clone(),
            SignatureError::UnknownComponent,
        ),
        (
            &input(r#"("@method" "@authority" "@path" "@query" "date")"#, &good),
            ok64.clone(),
            SignatureError::MissingField,
        ),
    ];
    for (input, signature, error) in rows {
        assert_eq!(check(input, &signature), Some(error), "{input}");
    }
    assert_eq!(check(&input(covered, &format!(r#"{good};alg="ecdsa-p256-sha256""#)), &ok64), None);
    let received =
        ReceivedSignature::parse(&input(covered, &format!("{good};expires=30")), &ok64).unwrap();
    assert_eq!(received.check_created(62), Err(SignatureError::ClockSkew));
    assert_eq!(received.check_created(30), Err(SignatureError::Expired));
    assert_eq!(received.check_created(29), Ok(()));
}

#[test]
fn other_signatures_and_further_fields_are_fine() {
    let key = key();
    let header =
        |name: &str| (name == "date").then(|| " Tue, 20 Apr 2021 02:07:55 GMT ".to_owned());
    let params = format!(
        r#"("date" "@query" "@path" "@authority" "@method");tag="warifu";keyid="{}";nonce="n";created=9"#,
        key.thumbprint()
    );
    let base = format!(
        "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@query\": ?\n\"@path\": /v1/payments\n\"@authority\": issuer.example\n\"@method\": POST\n\"@signature-params\": {params}"
    );
    let signature = STANDARD.encode(key.sign(base.as_bytes()));
    let input = format!(r#"other=("@method");created=1;tag="else", mine={params}"#);
    let received =
        ReceivedSignature::parse(&input, &format!("other=:AAAA:, mine=:{signature}:")).unwrap();
    assert_eq!(received.label(), "mine");
    let built = received.check_request(&TARGET, None, header).unwrap();
    assert_eq!(built, base);
    assert_eq!(received.verify_with_key(&built, key.public()), Ok(()));
}

proptest! {
    #[test]
    fn no_header_panics(input in "\\PC{0,200}", signature in "\\PC{0,100}", almost in r#"[a-z]=\(("@?[a-z-]{0,12}"(;[a-z]{1,3}(="[a-z]{0,3}")?)? ?){0,3}\)(;[a-z]{1,7}=("[a-z]{0,9}"|[0-9]{1,3})){0,4}"#) {
        let _read = ReceivedSignature::parse(&input, &signature);
        let _read = ReceivedSignature::parse(&almost, "s=:AAAA:");
        let _read = content_digest_matches(&input, b"");
    }

    #[test]
    fn what_is_signed_verifies(path in "/[a-z0-9/%]{0,30}", query in proptest::option::of("[a-z0-9=&]{0,30}"), created in 0_u64..1 << 40) {
        let target = RequestTarget { path: &path, query: query.as_deref(), ..TARGET };
        let received = parse(&sign_request(&target, None, SESSION, created, "n"));
        prop_assert_eq!(received.created_s(), created);
        let base = received.check_request(&target, None, no_header).unwrap();
        prop_assert_eq!(received.verify_with_secret(&base, &SECRET), Ok(()));
    }
}

/// The base of a vector of RFC 9421, from its header as it stands there and the values of its components.
fn base_of(signature_input: &str, values: &[(&str, &str)]) -> String {
    let input = fields::inputs(signature_input).unwrap().remove(0);
    let mut base = Base::new();
    for component in &input.components {
        let value = values.iter().find(|(name, _)| *name == component.name).unwrap().1;
        base.line(&component.raw, value);
    }
    base.end(&input.raw)
}

#[test]
fn the_vectors_of_rfc_9421() {
    // Appendix B.2.5: HMAC-SHA-256, whose signature is the same every time.
    let secret = STANDARD.decode("uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==").unwrap();
    let base = base_of(
        r#"sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#,
        &[
            ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
            ("@authority", "example.com"),
            ("content-type", "application/json"),
        ],
    );
    let signature = STANDARD.encode(mac::hmac_sha256(&secret, &[base.as_bytes()]));
    assert_eq!(signature, "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=");

    // Appendix B.2.4: an answer signed by ECDSA P-256.
    let jwk = r#"{"kty":"EC","crv":"P-256","x":"qIVYZVLCrPZHGHjP17CTW0_-D9Lfw0EkjqF7xB4FivA","y":"Mc4nN9LTDOBhfoUeg8Ye9WedFRhnZXZJA12Qp0zZ6F0"}"#;
    let key: PublicKey = serde_json::from_str(jwk).unwrap();
    let digest = "sha-512=:mEWXIS7MaLRuGgxOBdODa3xqM1XdEvxoYhvlCFJ41QJgJc4GTsPp29l5oGX69wWdXymyU0rjJuahq4l5aGgfLQ==:";
    let base = base_of(
        r#"sig-b24=("@status" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-ecc-p256""#,
        &[
            ("@status", "200"),
            ("content-type", "application/json"),
            ("content-digest", digest),
            ("content-length", "23"),
        ],
    );
    let signature = fields::byte_sequences("sig-b24=:wNmSUAhwb5LxtOtOpNa6W5xj067m5hFrj0XQ4fvpaCLx0NKocgPquLgyahnzDnDAUy5eCdlYUEkLIj+32oiasw==:").unwrap();
    assert!(key.verifies(base.as_bytes(), signature[0].1.as_slice().try_into().unwrap()));
}
