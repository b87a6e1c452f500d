//! Structured fields (RFC 9651) as far as signatures need them: dictionaries of inner lists and of byte sequences,
//! with parameters. Strict: anything else is an error, and nothing is normalised on the way.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::SignatureError;

/// Longest field that is read, in bytes: a signature of ours has some 300.
pub(super) const FIELD_MAX_BYTES: usize = 4096;
/// Most members of a dictionary, items of a list or parameters of an item.
const MEMBERS_MAX: usize = 32;

/// A parameter's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Integer(i64),
    Text(String),
    Token(String),
    Bytes(Vec<u8>),
    Boolean(bool),
}

/// Parameters in the order received, without repeats.
pub(super) type Parameters = Vec<(String, Value)>;

/// One covered component: its name and its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Component {
    pub(super) name: String,
    pub(super) parameters: Parameters,
    /// As received, with quotes and parameters: how it stands in the signature base.
    pub(super) raw: String,
}

/// One member of `signature-input`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Input {
    pub(super) label: String,
    pub(super) components: Vec<Component>,
    pub(super) parameters: Parameters,
    /// The member's value as received: what `@signature-params` stands for.
    pub(super) raw: String,
}

pub(super) fn find<'a>(parameters: &'a Parameters, name: &str) -> Option<&'a Value> {
    parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

/// Reads `signature-input`.
pub(super) fn inputs(text: &str) -> Result<Vec<Input>, SignatureError> {
    let bad = || SignatureError::MalformedInput;
    let mut at = Cursor::new(text).ok_or_else(bad)?;
    let mut inputs: Vec<Input> = Vec::new();
    at.dictionary(|at, label| {
        let from = at.rest;
        let components = at.inner_list()?;
        let parameters = at.parameters()?;
        let raw = from.get(..from.len().checked_sub(at.rest.len())?)?.to_owned();
        if inputs.iter().any(|it| it.label == label) {
            return None;
        }
        inputs.push(Input { label, components, parameters, raw });
        Some(())
    })
    .ok_or_else(bad)?;
    Ok(inputs)
}

/// Reads a dictionary of byte sequences: `signature`, `content-digest`. Members of other types are passed over.
pub(super) fn byte_sequences(text: &str) -> Option<Vec<(String, Vec<u8>)>> {
    let mut at = Cursor::new(text)?;
    let mut members: Vec<(String, Vec<u8>)> = Vec::new();
    at.dictionary(|at, key| {
        let value = at.bare_item()?;
        at.parameters()?;
        if members.iter().any(|(other, _)| *other == key) {
            return None;
        }
        if let Value::Bytes(bytes) = value {
            members.push((key, bytes));
        }
        Some(())
    })?;
    Some(members)
}

struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn new(text: &'a str) -> Option<Self> {
        (text.len() <= FIELD_MAX_BYTES && text.is_ascii())
            .then_some(Self { rest: text.trim_matches(' ') })
    }

    fn peek(&self) -> Option<u8> {
        self.rest.bytes().next()
    }

    fn skip(&mut self, count: usize) -> Option<&'a str> {
        let (head, tail) = self.rest.split_at_checked(count)?;
        self.rest = tail;
        Some(head)
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.skip(1)).flatten().map(|_| ())
    }

    fn take_while(&mut self, good: impl Fn(u8) -> bool) -> &'a str {
        let count = self.rest.bytes().take_while(|byte| good(*byte)).count();
        self.skip(count).unwrap_or_default()
    }

    fn dictionary(
        &mut self,
        mut member: impl FnMut(&mut Self, String) -> Option<()>,
    ) -> Option<()> {
        for _ in 0..MEMBERS_MAX {
            let key = self.key()?;
            self.eat(b'=')?;
            member(self, key)?;
            self.take_while(|byte| matches!(byte, b' ' | b'\t'));
            if self.rest.is_empty() {
                return Some(());
            }
            self.eat(b',')?;
            self.take_while(|byte| matches!(byte, b' ' | b'\t'));
        }
        None
    }

    fn key(&mut self) -> Option<String> {
        let first = self.peek()?;
        if !(first.is_ascii_lowercase() || first == b'*') {
            return None;
        }
        let good = |byte: u8| {
            byte.is_ascii_lowercase()
                || byte.is_ascii_digit()
                || matches!(byte, b'_' | b'-' | b'.' | b'*')
        };
        Some(self.take_while(good).to_owned())
    }

    fn inner_list(&mut self) -> Option<Vec<Component>> {
        self.eat(b'(')?;
        let mut components = Vec::new();
        for _ in 0..MEMBERS_MAX {
            self.take_while(|byte| byte == b' ');
            if self.eat(b')').is_some() {
                return Some(components);
            }
            let from = self.rest;
            let Value::Text(name) = self.bare_item()? else { return None };
            let parameters = self.parameters()?;
            let raw = from.get(..from.len().checked_sub(self.rest.len())?)?.to_owned();
            matches!(self.peek()?, b' ' | b')').then_some(())?;
            components.push(Component { name, parameters, raw });
        }
        None
    }

    fn parameters(&mut self) -> Option<Parameters> {
        let mut parameters = Parameters::new();
        while self.peek() == Some(b';') {
            self.skip(1)?;
            self.take_while(|byte| byte == b' ');
            let key = self.key()?;
            let value =
                if self.eat(b'=').is_some() { self.bare_item()? } else { Value::Boolean(true) };
            if parameters.len() >= MEMBERS_MAX || find(&parameters, &key).is_some() {
                return None;
            }
            parameters.push((key, value));
        }
        Some(parameters)
    }

    fn bare_item(&mut self) -> Option<Value> {
        match self.peek()? {
            b'"' => self.text().map(Value::Text),
            b':' => {
                self.skip(1)?;
                let text = self.take_while(|byte| byte != b':');
                self.eat(b':')?;
                STANDARD.decode(text).ok().map(Value::Bytes)
            }
            b'?' => {
                self.skip(1)?;
                match self.skip(1)? {
                    "1" => Some(Value::Boolean(true)),
                    "0" => Some(Value::Boolean(false)),
                    _ => None,
                }
            }
            b'-' | b'0'..=b'9' => {
                let text = self.take_while(|byte| byte == b'-' || byte.is_ascii_digit());
                // Fifteen digits at most; decimals have no place here.
                (text.trim_start_matches('-').len() <= 15)
                    .then(|| text.parse().ok().map(Value::Integer))
                    .flatten()
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'*' => {
                let good =
                    |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte);
                Some(Value::Token(self.take_while(good).to_owned()))
            }
            _ => None,
        }
    }

    fn text(&mut self) -> Option<String> {
        self.eat(b'"')?;
        let mut text = String::new();
        loop {
            text.push_str(
                self.take_while(|byte| {
                    matches!(byte, 0x20..=0x7e) && byte != b'"' && byte != b'\\'
                }),
            );
            match self.peek()? {
                b'"' => {
                    self.skip(1)?;
                    return Some(text);
                }
                b'\\' => {
                    self.skip(1)?;
                    let escaped = self.skip(1)?;
                    matches!(escaped, "\"" | "\\").then(|| text.push_str(escaped))?;
                }
                _ => return None,
            }
        }
    }
}
