//! The signature base (RFC 9421, section 2.5): one line for each covered component, and the parameters last, without
//! a line feed behind them.

use std::fmt::Write as _;

use base64::Engine as _;

use super::fields::{self, Component};
use super::{
    BASE64, LABEL, RequestSignature, RequestTarget, SignatureError, Signed, SigningKey, TAG,
};

/// Bytes of a base around the values that differ: names, key id, times. An answer in a session has some 480.
const FRAME_BYTES: usize = 640;

/// Builds the base of any signature: `signature_params` is the value of its member in `signature-input`, and `value`
/// appends each covered component's value. Knows no profile; [`super::ReceivedSignature`] does.
///
/// # Errors
/// [`SignatureError::InputSyntax`], [`SignatureError::CoveredTwice`], [`SignatureError::FieldValue`] for a value
/// of more than one line, and whatever `value` says.
pub fn signature_base<'a>(
    signature_params: &'a str,
    value: impl FnMut(&Component<'a>, &mut String) -> Result<(), SignatureError>,
) -> Result<String, SignatureError> {
    let input = fields::input(signature_params).map_err(SignatureError::InputSyntax)?;
    check_no_repeat(input.components(signature_params))?;
    build(input.components(signature_params), signature_params, FRAME_BYTES, value)
}

pub(super) fn check_no_repeat<'a>(
    mut components: impl Iterator<Item = Component<'a>> + Clone,
) -> Result<(), SignatureError> {
    while let Some(one) = components.next() {
        if components.clone().any(|other| one.is_same(&other)) {
            return Err(SignatureError::CoveredTwice);
        }
    }
    Ok(())
}

pub(super) fn build<'a>(
    components: impl Iterator<Item = Component<'a>>,
    signature_params: &str,
    capacity_bytes: usize,
    mut value: impl FnMut(&Component<'a>, &mut String) -> Result<(), SignatureError>,
) -> Result<String, SignatureError> {
    let mut base = String::with_capacity(capacity_bytes);
    let mut is_signable = true;
    // Without an early end, so that the compiler takes many bytes at a time.
    let are_signable = |bytes: &[u8]| {
        bytes.iter().fold(true, |all, byte| all & matches!(byte, b' '..=b'~' | b'\t'))
    };
    for component in components {
        base.push_str(component.identifier());
        base.push_str(": ");
        let from = base.len();
        value(&component, &mut base)?;
        // A line feed in a value could stand for the next component; other such characters never arrive by HTTP.
        is_signable &= base.as_bytes().get(from..).is_some_and(are_signable);
        base.push('\n');
    }
    base.push_str("\"@signature-params\": ");
    base.push_str(signature_params);
    if is_signable { Ok(base) } else { Err(SignatureError::FieldValue) }
}

/// How large a base for this target gets, so that its text is allocated once.
pub(super) fn capacity_bytes(target: &RequestTarget<'_>, content_digest: Option<&str>) -> usize {
    let query = target.query.unwrap_or_default();
    [target.method, target.authority, target.path, query, content_digest.unwrap_or_default()]
        .iter()
        .fold(FRAME_BYTES, |sum, value| sum.saturating_add(value.len()))
}

pub(super) fn push_query(base: &mut String, query: Option<&str>) {
    base.push('?');
    base.push_str(query.unwrap_or_default());
}

pub(super) fn push_bytes(base: &mut String, bytes: &[u8]) {
    base.push(':');
    BASE64.encode_string(bytes, base);
    base.push(':');
}

pub(super) fn push_number(base: &mut String, number: u64) {
    write!(base, "{number}").expect("a String takes any text");
}

/// Writes the base of a signature of ours, and makes it.
pub(super) struct Writer {
    base: String,
    /// Where the parameters begin: they are sent as well.
    parameters_from: usize,
}

impl Writer {
    pub(super) fn new(
        target: &RequestTarget<'_>,
        content_digest: Option<&str>,
        further_bytes: usize,
    ) -> Self {
        // A label stands in the base twice.
        let capacity = capacity_bytes(target, content_digest)
            .saturating_add(further_bytes)
            .saturating_add(further_bytes);
        Self { base: String::with_capacity(capacity), parameters_from: 0 }
    }

    fn push(&mut self, parts: &[&str]) {
        parts.iter().for_each(|part| self.base.push_str(part));
    }

    pub(super) fn status(&mut self, status: u16) {
        self.base.push_str("\"@status\": ");
        push_number(&mut self.base, status.into());
        self.base.push('\n');
    }

    pub(super) fn target(&mut self, target: &RequestTarget<'_>, suffix: &str) {
        self.push(&["\"@method\"", suffix, ": ", target.method, "\n"]);
        self.push(&["\"@authority\"", suffix, ": ", target.authority, "\n"]);
        self.push(&["\"@path\"", suffix, ": ", target.path, "\n"]);
        self.push(&["\"@query\"", suffix, ": "]);
        push_query(&mut self.base, target.query);
        self.base.push('\n');
    }

    pub(super) fn digest(&mut self, content_digest: Option<&str>) {
        if let Some(digest) = content_digest {
            self.push(&["\"content-digest\": ", digest, "\n"]);
        }
    }

    pub(super) fn request_signature(&mut self, signature: Option<RequestSignature<'_>>) {
        if let Some((label, bytes)) = signature {
            self.push(&["\"signature\";req;key=\"", label, "\": "]);
            push_bytes(&mut self.base, bytes);
            self.base.push('\n');
        }
    }

    pub(super) fn begin_parameters(&mut self, covered: &str) {
        self.base.push_str("\"@signature-params\": ");
        self.parameters_from = self.base.len();
        self.push(&["(", covered]);
    }

    pub(super) fn cover(&mut self, covered: &str) {
        self.base.push_str(covered);
    }

    pub(super) fn cover_digest(&mut self, content_digest: Option<&str>) {
        if content_digest.is_some() {
            self.base.push_str(" \"content-digest\"");
        }
    }

    pub(super) fn cover_request_signature(&mut self, signature: Option<RequestSignature<'_>>) {
        if let Some((label, _)) = signature {
            self.push(&[" \"signature\";req;key=\"", label, "\""]);
        }
    }

    pub(super) fn end_parameters(
        &mut self,
        created_s: u64,
        key: SigningKey<'_>,
        nonce: Option<&str>,
    ) {
        self.base.push_str(");created=");
        push_number(&mut self.base, created_s);
        self.base.push_str(";keyid=\"");
        match key {
            SigningKey::Identity(key) => {
                write!(self.base, "{}", key.thumbprint()).expect("a String takes any text");
            }
            SigningKey::Session { keyid, .. } => self.text(keyid),
        }
        if let Some(nonce) = nonce {
            self.base.push_str("\";nonce=\"");
            self.text(nonce);
        }
        self.push(&["\";tag=\"", TAG, "\""]);
    }

    /// The inside of a string: quotes and backslashes escaped, and nothing that a header can't carry.
    fn text(&mut self, text: &str) {
        if text.bytes().all(|it| matches!(it, b' '..=b'~') && it != b'"' && it != b'\\') {
            return self.base.push_str(text);
        }
        for it in text.chars().filter(|it| matches!(it, ' '..='~')) {
            if matches!(it, '"' | '\\') {
                self.base.push('\\');
            }
            self.base.push(it);
        }
    }

    pub(super) fn sign(self, key: SigningKey<'_>) -> Signed {
        let bytes = key.sign(&self.base);
        let parameters = self.base.get(self.parameters_from..).unwrap_or_default();
        // The label and "=" before the parameters.
        let mut signature_input = String::with_capacity(parameters.len().saturating_add(8));
        signature_input.extend([LABEL, "=", parameters]);
        // The label, "=:" and ":" around at most 88 characters of base64.
        let mut signature = String::with_capacity(96);
        signature.extend([LABEL, "="]);
        push_bytes(&mut signature, bytes.as_slice());
        Signed { signature_input, signature, bytes }
    }
}
