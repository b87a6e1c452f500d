//! Signatures and digests that others made: the examples of RFC 9421 and RFC 9530, and messages of our profile signed
//! by `http-message-signatures` 3.0.0 for Python, an implementation that shares nothing with ours.

use aws_lc_rs::{hmac, signature as aws};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use warifu_proto::key::{PrivateKey, PublicKey};
use warifu_proto::signature::{
    Component, KeyId, LABEL, ReceivedSignature, RequestSignature, RequestTarget, SignatureError,
    SigningKey, check_content_digest, content_digest, content_digest_matches, sign_answer,
    sign_request, signature_base,
};

/// RFC 9421, appendix B.2: the request `test-request`.
fn of_test_request(component: &Component<'_>, base: &mut String) -> Result<(), SignatureError> {
    base.push_str(match component.name() {
        "@method" => "POST",
        "@authority" => "example.com",
        "@path" => "/foo",
        "@query" => "?param=Value&Pet=dog",
        "date" => "Tue, 20 Apr 2021 02:07:55 GMT",
        "content-type" => "application/json",
        "content-digest" => {
            "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:"
        }
        "content-length" => "18",
        _ => return Err(SignatureError::MissingField),
    });
    Ok(())
}

/// RFC 9421, appendix B.1.3: `test-key-ecc-p256`.
fn test_key_ecc_p256() -> PublicKey {
    let xy = [
        "qIVYZVLCrPZHGHjP17CTW0_-D9Lfw0EkjqF7xB4FivA",
        "Mc4nN9LTDOBhfoUeg8Ye9WedFRhnZXZJA12Qp0zZ6F0",
    ];
    let xy = xy.map(|it| URL_SAFE_NO_PAD.decode(it).expect("base64url")).concat();
    PublicKey::from_xy(&xy.try_into().expect("64 bytes")).expect("a point of the curve")
}

fn is_by_test_key(base: &str, signature: &str) -> bool {
    let signature = STANDARD.decode(signature).expect("base64");
    let signature = signature.try_into().expect("64 bytes");
    test_key_ecc_p256().verifies(base.as_bytes(), &signature)
}

#[test]
fn rfc_9421_b_2_4_an_answer_signed_by_a_p256_key() {
    let params = r#"("@status" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-ecc-p256""#;
    let base = signature_base(params, |component, base| {
        base.push_str(match component.name() {
            "@status" => "200",
            "content-type" => "application/json",
            "content-digest" => {
                "sha-512=:mEWXIS7MaLRuGgxOBdODa3xqM1XdEvxoYhvlCFJ41QJgJc4GTsPp29l5oGX69wWdXymyU0rjJuahq4l5aGgfLQ==:"
            }
            "content-length" => "23",
            _ => return Err(SignatureError::MissingField),
        });
        Ok(())
    })
    .unwrap();
    let signature =
        "wNmSUAhwb5LxtOtOpNa6W5xj067m5hFrj0XQ4fvpaCLx0NKocgPquLgyahnzDnDAUy5eCdlYUEkLIj+32oiasw==";
    assert!(is_by_test_key(&base, signature));
    assert!(!is_by_test_key(&base.replace("200", "201"), signature));
    // The profile would not take it: the key id is none of ours.
    let input = format!("sig-b24={params};tag=\"warifu\"");
    let received = ReceivedSignature::parse(&input, &format!("sig-b24=:{signature}:"));
    assert_eq!(received.unwrap_err(), SignatureError::KeyId);
}

#[test]
fn rfc_9421_b_2_5_a_request_signed_by_a_shared_secret() {
    let params =
        r#"("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#;
    let base = signature_base(params, of_test_request).unwrap();
    let expected = "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@authority\": example.com\n\
         \"content-type\": application/json\n\"@signature-params\": (\"date\" \"@authority\" \"content-type\")\
         ;created=1618884473;keyid=\"test-shared-secret\"";
    assert_eq!(base, expected);
    let secret =
        "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==";
    let secret = STANDARD.decode(secret).unwrap();
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), base.as_bytes());
    assert_eq!(STANDARD.encode(mac), "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=");
    assert_eq!(warifu_proto::mac::hmac_sha256(&secret, &[base.as_bytes()]), mac.as_ref());
}

#[test]
fn rfc_9421_b_2_6_a_request_signed_by_ed25519() {
    let params = r#"("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519""#;
    let base = signature_base(params, of_test_request).unwrap();
    let key = URL_SAFE_NO_PAD.decode("JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs").unwrap();
    let signature =
        "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==";
    let signature = STANDARD.decode(signature).unwrap();
    let key = aws::UnparsedPublicKey::new(&aws::ED25519, key);
    assert!(key.verify(base.as_bytes(), &signature).is_ok());
}

#[test]
fn rfc_9421_2_4_an_answer_with_parts_of_its_request() {
    let params = r#"("@status" "content-digest" "content-type" "@authority";req "@method";req "@path";req "content-digest";req);created=1618884479;keyid="test-key-ecc-p256""#;
    let base = signature_base(params, |component, base| {
        if component.is_of_request() {
            return of_test_request(component, base);
        }
        base.push_str(match component.name() {
            "@status" => "503",
            "content-type" => "application/json",
            "content-digest" => {
                "sha-512=:0Y6iCBzGg5rZtoXS95Ijz03mslf6KAMCloESHObfwnHJDbkkWWQz6PhhU9kxsTbARtY2PTBOzq24uJFpHsMuAg==:"
            }
            _ => return Err(SignatureError::MissingField),
        });
        Ok(())
    })
    .unwrap();
    let signature =
        "dMT/A/76ehrdBTD/2Xx8QuKV6FoyzEP/I9hdzKN8LQJLNgzU4W767HK05rx1i8meNQQgQPgQp8wq2ive3tV5Ag==";
    assert!(is_by_test_key(&base, signature));
}

/// The last draft before the RFC had the request's signature in this example, and signed it by the same key.
#[test]
fn draft_13_2_4_an_answer_bound_to_a_request_s_signature() {
    let params = r#"("@status" "content-length" "content-type" "signature";req;key="sig1" "@authority";req "@method";req);created=1618884479;keyid="test-key-ecc-p256""#;
    let of_request = "LAH8BjcfcOcLojiuOBFWn0P5keD3xAOuJRGziCLuD8r5MW9S0RoXXLzLSRfGY/3SF8kVIkHjE13SEFdTo4Af/fJ/Pu9wheqoLVdwXyY/UkBIS1M8Brc8IODsn5DFIrG0IrburbLi0uCc+E2ZIIb6HbUJ+o+jP58JelMTe0QE3IpWINTEzpxjqDf5/Df+InHCAkQCTuKsamjWXUpyOT1Wkxi7YPVNOjW4MfNuTZ9HdbD2Tr65+BXeTG9ZS/9SWuXAc+BZ8WyPz0QRz//ec3uWXd7bYYODSjRAxHqX+S1ag3LZElYyUKaAIjZ8MGOt4gXEwCSLDv/zqxZeWLj/PDkn6w==";
    let base = signature_base(params, |component, base| {
        match (component.name(), component.key()) {
            ("signature", Some("sig1")) => base.extend([":", of_request, ":"]),
            ("@status", None) => base.push_str("503"),
            ("content-length", None) => base.push_str("62"),
            _ => return of_test_request(component, base),
        }
        Ok(())
    })
    .unwrap();
    let signature =
        "mh17P4TbYYBmBwsXPT4nsyVzW4Rp9Fb8WcvnfqKCQLoMvzOBLD/n32tL/GPW6XE5GAS5bdsg1khK6lBzV1Cx/Q==";
    assert!(is_by_test_key(&base, signature));
}

#[test]
fn rfc_9530_appendix_b_digests() {
    for (body, digest) in [
        ("{\"hello\": \"world\"}\n", "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"),
        ("", "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"),
        ("\"world\"}\n", "sha-256=:jjcgBDWNAtbYUXI37CVG3gRuGOAjaaDRGpIUFsdyepQ=:"),
        // RFC 9421 signs the same content without the line feed.
        ("{\"hello\": \"world\"}", "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"),
    ] {
        assert_eq!(content_digest(body.as_bytes()), digest);
        let sha_512 = "sha-512=:YMAam51Jz/jOATT6/zvHrLVgOYTGFy1d6GJiOHTohq4yP+pgk4vf2aCsyRZOtw8MjkM7iw7yZ/WkppmM44T3qg==:";
        assert!(content_digest_matches(&format!("{sha_512}, {digest}"), body.as_bytes()));
        let missing = check_content_digest(sha_512, body.as_bytes());
        assert_eq!(missing, Err(SignatureError::DigestMissing));
    }
}

const SESSION: &str = "ses_01h455vb4pex5vsknk084sn02q";
const TO_SERVER: [u8; 32] = [7; 32];
const TO_CALLER: [u8; 32] = [8; 32];
const CREATED_S: u64 = 1_767_225_600;

fn caller() -> PrivateKey {
    PrivateKey::from_bytes(&[3; 32]).expect("a scalar of the curve")
}

fn server() -> PrivateKey {
    PrivateKey::from_bytes(&[5; 32]).expect("a scalar of the curve")
}

fn no_field(_: &str) -> Option<String> {
    None
}

const PAYMENT: RequestTarget<'_> = RequestTarget {
    method: "POST",
    authority: "issuer.example",
    path: "/v1/payments",
    query: None,
};
const PAYMENT_BODY: &[u8] = br#"{"code":"710000010000000000000000"}"#;
const PAYMENT_INPUT: &str = r#"sig=("@method" "@authority" "@path" "@query" "content-digest");created=1767225600;keyid="ses_01h455vb4pex5vsknk084sn02q";nonce="bm9uY2U";tag="warifu""#;
const PAYMENT_SIGNATURE: &str = "sig=:tYDuPYltCYAIcPw5rHb4gRbn3Drm6EWGPleM0+12lYE=:";

const QUESTION: RequestTarget<'_> = RequestTarget {
    method: "GET",
    authority: "issuer.example:8443",
    path: "/v1/payments",
    query: Some("request_id=a%2Fb&route=710000%2001&wait_ms=0"),
};
const QUESTION_INPUT: &str = r#"till=("@query" "@path" "@authority" "@method");created=1767225600;keyid="EzY02lOLYcbnY5z-qyt59-EouE6B2dzqtZugyogVpcM";nonce="n-2";tag="warifu""#;
const QUESTION_SIGNATURE: &str = "till=:nDMvUCMuHVAZaVD8o1pjwLbyCIwE9mKvcZL5tqOtMDFWM5vu53dG4tREUwADIKvmhVrgTnInu6eCCwMazxW1dQ==:";

#[test]
fn a_payment_in_a_session_is_signed_by_both_to_the_same_bytes() {
    let digest = content_digest(PAYMENT_BODY);
    assert_eq!(digest, "sha-256=:wLWFqkanZHsrQsuex3BO6PXW6prBh7hEyAySfpNDWb0=:");
    let key = SigningKey::Session { keyid: SESSION, secret: &TO_SERVER };
    let signed = sign_request(&PAYMENT, Some(&digest), key, CREATED_S, "bm9uY2U");
    assert_eq!(signed.signature_input, PAYMENT_INPUT);
    assert_eq!(signed.signature, PAYMENT_SIGNATURE);
    let received = ReceivedSignature::parse(PAYMENT_INPUT, PAYMENT_SIGNATURE).unwrap();
    let base = received.check_request(&PAYMENT, Some(&digest), no_field).unwrap();
    assert_eq!(received.verify_with_secret(&base, &TO_SERVER), Ok(()));

    // Its answer.
    let digest = content_digest(br#"{"status":"approved"}"#);
    let bound = Some(received.label_and_bytes());
    let key = SigningKey::Session { keyid: SESSION, secret: &TO_CALLER };
    let signed = sign_answer(200, Some(&digest), &PAYMENT, bound, key, CREATED_S);
    let input = r#"sig=("@status" "content-digest" "@method";req "@authority";req "@path";req "@query";req "signature";req;key="sig");created=1767225600;keyid="ses_01h455vb4pex5vsknk084sn02q";tag="warifu""#;
    assert_eq!(signed.signature_input, input);
    assert_eq!(signed.signature, "sig=:41sxebcl32KuP3PSOZuJ9ZyvkC3ni/oDh+1s9jm3/J0=:");
    let answer = ReceivedSignature::parse(input, &signed.signature).unwrap();
    let base = answer.check_answer(200, Some(&digest), &PAYMENT, bound, no_field).unwrap();
    assert_eq!(answer.verify_with_secret(&base, &TO_CALLER), Ok(()));
    assert_eq!(answer.verify_with_secret(&base, &TO_SERVER), Err(SignatureError::Wrong));
}

#[test]
fn a_question_signed_by_another_implementation_is_verified_by_key() {
    let received = ReceivedSignature::parse(QUESTION_INPUT, QUESTION_SIGNATURE).unwrap();
    assert_eq!(received.label(), "till");
    assert_eq!(received.key_id(), &KeyId::Thumbprint(caller().thumbprint()));
    let base = received.check_request(&QUESTION, None, no_field).unwrap();
    assert_eq!(received.verify_with_key(&base, caller().public()), Ok(()));
    let decoded =
        RequestTarget { query: Some("request_id=a/b&route=710000 01&wait_ms=0"), ..QUESTION };
    let base = received.check_request(&decoded, None, no_field).unwrap();
    let found = received.verify_with_key(&base, caller().public());
    assert_eq!(found, Err(SignatureError::Wrong), "a query is signed as it is sent");
}

/// An answer of the other implementation, signed by the server's key.
fn holds_by_key(
    headers: [&str; 2],
    (status, content): (u16, Option<&[u8]>),
    request: &RequestTarget<'_>,
    bound: Option<RequestSignature<'_>>,
) -> Result<(), SignatureError> {
    let [input, signature] = headers;
    let digest = content.map(content_digest);
    let answer = ReceivedSignature::parse(input, signature)?;
    assert_eq!(answer.label(), LABEL);
    let base = answer.check_answer(status, digest.as_deref(), request, bound, no_field)?;
    answer.verify_with_key(&base, server().public())
}

#[test]
fn answers_signed_by_another_implementation_are_verified_by_key() {
    let question = ReceivedSignature::parse(QUESTION_INPUT, QUESTION_SIGNATURE).unwrap();
    let bound = Some(question.label_and_bytes());
    let unknown = [
        r#"sig=("@status" "content-digest" "@method";req "@authority";req "@path";req "@query";req "signature";req;key="till");created=1767225600;keyid="6uuEaX_87uMh4VKEtSDkENgjC0g7Evt6vliSnD7XSDE";tag="warifu""#,
        "sig=:5LRgj++VqP4y4h1fPUxNhthS8bfjzpHBT16QVJG7sdq59qhxvmUREeO7nIwEZIs7VZhvGio+d0GitkJTuFgJow==:",
    ];
    assert_eq!(holds_by_key(unknown, (404, Some(b"{}")), &QUESTION, bound), Ok(()));
    let wrong = Err(SignatureError::Wrong);
    assert_eq!(holds_by_key(unknown, (200, Some(b"{}")), &QUESTION, bound), wrong);
    assert_eq!(holds_by_key(unknown, (404, Some(b"[]")), &QUESTION, bound), wrong);

    let empty = [
        r#"sig=("@status" "@method";req "@authority";req "@path";req "@query";req "signature";req;key="till");created=1767225600;keyid="6uuEaX_87uMh4VKEtSDkENgjC0g7Evt6vliSnD7XSDE";tag="warifu""#,
        "sig=:cJb5oiY2HIR5p2aSeyTgVvBILwKQ4kv/1fo4nJuZqrEMbNwJuJmPs17fIvQHaBb6Yl4P1X7LzdUZr6YE8r4ZUw==:",
    ];
    assert_eq!(holds_by_key(empty, (204, None), &QUESTION, bound), Ok(()));

    let directory = RequestTarget {
        method: "GET",
        authority: "issuer.example",
        path: "/v1/directory",
        query: Some("view=all"),
    };
    let unbound = [
        r#"sig=("@status" "content-digest" "@method";req "@authority";req "@path";req "@query";req);created=1767225600;keyid="6uuEaX_87uMh4VKEtSDkENgjC0g7Evt6vliSnD7XSDE";tag="warifu""#,
        "sig=:N7wk8HwptDuw3fj2P0AYYOqxNJrmwD2gDynpogeGzMLfZn6t3RK+xaHs2Un7NKZB7fRUXY9nQQi7wwnnCSHCBg==:",
    ];
    assert_eq!(holds_by_key(unbound, (200, Some(b"{}")), &directory, None), Ok(()));
}
