//! The profile: what a signature of ours covers in a request and in an answer, and what each component stands for.
//!
//! Law: what is required is all there, nothing is there twice, and what nobody here knows how to check is refused, so
//! that a signature never seems to cover more than it does.

use super::base;
use super::fields::Component;
use super::{RequestSignature, RequestTarget, SignatureError};

/// What a covered component stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Method,
    Authority,
    Path,
    Query,
    Status,
    ContentDigest,
    RequestSignature,
    Field,
}

impl Part {
    const fn bit(self) -> u8 {
        match self {
            Self::Method => 0x01,
            Self::Authority => 0x02,
            Self::Path => 0x04,
            Self::Query => 0x08,
            Self::Status => 0x10,
            Self::ContentDigest => 0x20,
            Self::RequestSignature => 0x40,
            Self::Field => 0x80,
        }
    }
}

/// A set of parts.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Parts(u8);

impl Parts {
    pub(super) fn has(self, part: Part) -> bool {
        self.0 & part.bit() != 0
    }

    /// Whether it was not yet there.
    fn add(&mut self, part: Part) -> bool {
        let is_new = !self.has(part);
        self.0 |= part.bit();
        is_new
    }
}

/// Which kind of message a signature stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Answer,
}

/// What the signature of a request must cover, and how that is written.
const OF_REQUEST: [(Part, &str); 4] = [
    (Part::Method, "\"@method\""),
    (Part::Authority, "\"@authority\""),
    (Part::Path, "\"@path\""),
    (Part::Query, "\"@query\""),
];
/// What the signature of an answer must cover, and how that is written.
const OF_ANSWER: [(Part, &str); 5] = [
    (Part::Status, "\"@status\""),
    (Part::Method, "\"@method\";req"),
    (Part::Authority, "\"@authority\";req"),
    (Part::Path, "\"@path\";req"),
    (Part::Query, "\"@query\";req"),
];
const OWN_SIGNATURE: &str = "\"signature\";req;key=\"<the label of the request's signature>\"";

/// The values that a base is built of.
pub(super) struct Message<'a> {
    pub(super) side: Side,
    pub(super) status: u16,
    pub(super) content_digest: Option<&'a str>,
    pub(super) target: &'a RequestTarget<'a>,
    pub(super) request_signature: Option<RequestSignature<'a>>,
}

/// Checks what a signature covers in this kind of message, and gives the set. One look at each component, except that
/// fields are compared with each other: a message of ours has none.
///
/// Order: checks run in the order of [`SignatureError`], from `UnknownComponent` to `NotCovered`.
pub(super) fn check<'a>(
    components: impl Iterator<Item = Component<'a>> + Clone,
    message: &Message<'_>,
) -> Result<Parts, SignatureError> {
    let side = message.side;
    let label = message.request_signature.map(|(label, _)| label);
    let mut parts = Parts::default();
    let mut first: Option<SignatureError> = None;
    let mut has_repeat = false;
    for component in components.clone() {
        match part_of(side, &component) {
            Ok(Part::Field) => {}
            // Not the request's own signature: it is not there, as building the base will find.
            Ok(Part::RequestSignature) if component.key() != label => {}
            Ok(part) => has_repeat |= !parts.add(part),
            Err(error) => first = Some(first.map_or(error, |it| it.min(error))),
        }
    }
    if let Some(first) = first {
        return Err(first);
    }
    if has_repeat {
        return Err(SignatureError::CoveredTwice);
    }
    base::check_no_repeat(
        components
            .filter(|it| matches!(part_of(side, it), Ok(Part::Field | Part::RequestSignature))),
    )?;
    let required = match side {
        Side::Request => &OF_REQUEST[..],
        Side::Answer => &OF_ANSWER[..],
    };
    let digest = message.content_digest.map(|_| (Part::ContentDigest, "\"content-digest\""));
    let signature = label.map(|_| (Part::RequestSignature, OWN_SIGNATURE));
    let missing =
        required.iter().copied().chain(digest).chain(signature).find(|(part, _)| !parts.has(*part));
    missing.map_or(Ok(parts), |(_, name)| Err(SignatureError::NotCovered(name)))
}

/// What a component stands for in this kind of message.
pub(super) fn part_of(side: Side, component: &Component<'_>) -> Result<Part, SignatureError> {
    let has_parameter = component.has_other_parameter() || component.key().is_some();
    let is_answer = side == Side::Answer;
    let derived = match component.name() {
        "@method" => Part::Method,
        "@authority" => Part::Authority,
        "@path" => Part::Path,
        "@query" => Part::Query,
        "@status" if is_answer => Part::Status,
        "signature" if is_answer && component.is_of_request() && component.key().is_some() => {
            return if component.has_other_parameter() {
                Err(SignatureError::ComponentParameter)
            } else {
                Ok(Part::RequestSignature)
            };
        }
        name if !is_field_name(name) => return Err(SignatureError::UnknownComponent),
        _ if has_parameter || component.is_of_request() => {
            return Err(SignatureError::ComponentParameter);
        }
        "content-digest" => return Ok(Part::ContentDigest),
        _ => return Ok(Part::Field),
    };
    let must_be_of_request = is_answer && derived != Part::Status;
    if component.is_of_request() != must_be_of_request {
        // A part of a request in an answer without `;req`, or `;req` where there is no other request.
        return Err(SignatureError::UnknownComponent);
    }
    if has_parameter { Err(SignatureError::ComponentParameter) } else { Ok(derived) }
}

/// Whether this is a header's name in lower case. Derived components begin with `@`, which no such name has.
fn is_field_name(name: &str) -> bool {
    let is_good = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
    };
    !name.is_empty() && name.bytes().all(is_good)
}
