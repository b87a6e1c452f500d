//! Structured fields (RFC 9651), as far as signatures and digests meet them: dictionaries whose members are items,
//! byte sequences or lists of strings, all with parameters. Reads in one pass, copies nothing (what is found are
//! places in the text), and normalises nothing, because signatures are made over the text as it was received.
//!
//! Law: every bare item of the RFC is read, since others' signatures stand in the same fields. A key or parameter
//! that stands there twice is refused, although the RFC would let the last one win: two readers must never see
//! two signatures in one field. Strings are kept as they stand between their quotes, escapes included.

use std::fmt;

/// Most members of a dictionary, and most parameters of one item. A request of ours has one member with five
/// parameters; the rest is room for signatures that others add.
const KEYS_MAX: usize = 16;

/// Most components that one signature may cover. An answer of ours covers seven.
const COMPONENTS_MAX: usize = 32;

/// Components that are read without growing the list: an answer's seven, and one.
const COMPONENTS_USUAL: usize = 8;

/// Where a field stops being a structured field, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Syntax {
    /// Counted from 0 in the field's value, its lines joined by `, `.
    pub at_byte: usize,
    /// What should have been there.
    pub why: &'static str,
}

impl fmt::Display for Syntax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {})", self.why, self.at_byte)
    }
}

/// A place in the text of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    from_byte: usize,
    to_byte: usize,
}

impl Span {
    /// What stands there, in the text that was read.
    pub(super) fn of(self, text: &str) -> &str {
        text.get(self.from_byte..self.to_byte).unwrap_or_default()
    }
}

/// One bare item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    Integer(i64),
    /// A string, as it stands between its quotes.
    Text(Span),
    /// Base64, as it stands between its colons; decodes for certain.
    Bytes(Span),
    Boolean(bool),
    /// A token, decimal, date or display string: legal, and never the value of anything that is used here.
    Other,
}

/// One covered component as received: `"content-digest"`, `"@path";req`, `"signature";req;key="sig"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Component<'a> {
    name: &'a str,
    is_of_request: bool,
    key: Option<&'a str>,
    has_other_parameter: bool,
    identifier: &'a str,
}

impl<'a> Component<'a> {
    /// Its name without quotes; of a derived component with the `@`.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Whether it is the request's, in an answer: `;req`.
    pub fn is_of_request(&self) -> bool {
        self.is_of_request
    }

    /// Which member of a dictionary: `;key="…"`.
    pub fn key(&self) -> Option<&'a str> {
        self.key
    }

    /// Whether it has a parameter besides these two (`;sf`, `;bs`, `;tr`, `;name`).
    pub fn has_other_parameter(&self) -> bool {
        self.has_other_parameter
    }

    /// How it stands in `signature-input`, and so in the signature base.
    pub fn identifier(&self) -> &'a str {
        self.identifier
    }

    /// Whether the two mean the same part of a message, in whatever order their parameters stand. For components
    /// with other parameters only equal text counts.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        if self.has_other_parameter || other.has_other_parameter {
            return self.identifier == other.identifier;
        }
        (self.name, self.is_of_request, self.key) == (other.name, other.is_of_request, other.key)
    }
}

/// A [`Component`] as places in a text that is kept elsewhere.
#[derive(Debug, Clone, Copy)]
struct Covered {
    name: Span,
    is_of_request: bool,
    key: Option<Span>,
    has_other_parameter: bool,
    identifier: Span,
}

/// The parameters of a signature that mean something here. Others are read and ignored.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Parameters {
    pub(super) alg: Option<Value>,
    pub(super) created: Option<Value>,
    pub(super) expires: Option<Value>,
    pub(super) keyid: Option<Value>,
    pub(super) nonce: Option<Value>,
    pub(super) tag: Option<Value>,
}

/// One member of `signature-input`, as places in the text of the field.
#[derive(Debug, Clone)]
pub(super) struct Input {
    pub(super) label: Span,
    covered: Vec<Covered>,
    pub(super) parameters: Parameters,
    /// The member's value as received: what `@signature-params` stands for.
    pub(super) raw: Span,
}

impl Input {
    /// What it covers, in the order received, in the text that was read.
    pub(super) fn components<'a>(
        &self,
        text: &'a str,
    ) -> impl Iterator<Item = Component<'a>> + Clone {
        self.covered.iter().map(|it| Component {
            name: it.name.of(text),
            is_of_request: it.is_of_request,
            key: it.key.map(|key| key.of(text)),
            has_other_parameter: it.has_other_parameter,
            identifier: it.identifier.of(text),
        })
    }
}

/// Reads `signature-input`, member by member.
pub(super) fn inputs(text: &str, mut take: impl FnMut(Input)) -> Result<(), Syntax> {
    Cursor::new(text).dictionary(|at, label| {
        at.expect(b'=', "a label must be followed by = and its list of components")?;
        take(at.input(label)?);
        Ok(())
    })
}

/// Reads the value of one member of `signature-input`, and nothing after it.
pub(super) fn input(text: &str) -> Result<Input, Syntax> {
    let mut at = Cursor::new(text);
    let no_label = at.since(0);
    let input = at.input(no_label)?;
    if at.is_at_end() { Ok(input) } else { Err(at.error("nothing may follow the parameters")) }
}

/// Reads a dictionary of items, member by member, their parameters passed over.
pub(super) fn items<'a>(
    text: &'a str,
    mut take: impl FnMut(&'a str, Value) -> Result<(), &'static str>,
) -> Result<(), Syntax> {
    Cursor::new(text).dictionary(|at, key| {
        let at_byte = at.at_byte;
        let value = if !at.eat(b'=') {
            Value::Boolean(true)
        } else if at.peek() == Some(b'(') {
            at.inner_list(|at| at.bare_item().and_then(|_| at.parameters(|_, _| {})))?;
            Value::Other
        } else {
            at.bare_item()?
        };
        at.parameters(|_, _| {})?;
        take(key.of(text), value).map_err(|why| Syntax { at_byte, why })
    })
}

/// The keys read so far: finds repeats, and bounds their number without allocating.
struct Keys<'a> {
    known: [&'a str; KEYS_MAX],
    count: usize,
}

impl<'a> Keys<'a> {
    fn new() -> Self {
        Self { known: [""; KEYS_MAX], count: 0 }
    }

    fn add(&mut self, key: &'a str) -> Result<(), &'static str> {
        if self.known.iter().take(self.count).any(|it| *it == key) {
            return Err("this key stands there twice");
        }
        *self.known.get_mut(self.count).ok_or("more than 16 keys")? = key;
        self.count = self.count.saturating_add(1);
        Ok(())
    }
}

/// Where reading has got to. Only ASCII is ever passed over, so `at_byte` never lies within a character.
struct Cursor<'a> {
    text: &'a str,
    at_byte: usize,
}

impl<'a> Cursor<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at_byte: 0 }
    }

    fn error(&self, why: &'static str) -> Syntax {
        Syntax { at_byte: self.at_byte, why }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at_byte).copied()
    }

    fn is_at_end(&self) -> bool {
        self.peek().is_none()
    }

    fn skip(&mut self) {
        self.at_byte = self.at_byte.saturating_add(1);
    }

    fn eat(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        if is_there {
            self.skip();
        }
        is_there
    }

    fn expect(&mut self, byte: u8, why: &'static str) -> Result<(), Syntax> {
        if self.eat(byte) { Ok(()) } else { Err(self.error(why)) }
    }

    fn since(&self, from_byte: usize) -> Span {
        Span { from_byte, to_byte: self.at_byte }
    }

    fn take_while(&mut self, is_good: impl Fn(u8) -> bool) -> &'a str {
        let from = self.at_byte;
        while self.peek().is_some_and(&is_good) {
            self.skip();
        }
        self.since(from).of(self.text)
    }

    fn skip_white_space(&mut self) {
        self.take_while(|byte| matches!(byte, b' ' | b'\t'));
    }

    /// `member` finds the cursor behind the key.
    fn dictionary(
        &mut self,
        mut member: impl FnMut(&mut Self, Span) -> Result<(), Syntax>,
    ) -> Result<(), Syntax> {
        let mut keys = Keys::new();
        self.take_while(|byte| byte == b' ');
        if self.is_at_end() {
            return Ok(());
        }
        loop {
            let at_byte = self.at_byte;
            let key = self.key()?;
            keys.add(key.of(self.text)).map_err(|why| Syntax { at_byte, why })?;
            member(self, key)?;
            self.skip_white_space();
            if self.is_at_end() {
                return Ok(());
            }
            self.expect(b',', "a comma must separate members")?;
            self.skip_white_space();
        }
    }

    fn key(&mut self) -> Result<Span, Syntax> {
        let from = self.at_byte;
        if !self.peek().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'*') {
            return Err(self.error("a key must begin with a lower-case letter"));
        }
        self.take_while(|byte| {
            byte.is_ascii_lowercase()
                || byte.is_ascii_digit()
                || matches!(byte, b'_' | b'-' | b'.' | b'*')
        });
        Ok(self.since(from))
    }

    fn parameters(&mut self, mut take: impl FnMut(&'a str, Value)) -> Result<(), Syntax> {
        if self.peek() != Some(b';') {
            return Ok(());
        }
        let mut keys = Keys::new();
        while self.eat(b';') {
            self.take_while(|byte| byte == b' ');
            let at_byte = self.at_byte;
            let key = self.key()?.of(self.text);
            keys.add(key).map_err(|why| Syntax { at_byte, why })?;
            let value = if self.eat(b'=') { self.bare_item()? } else { Value::Boolean(true) };
            take(key, value);
        }
        Ok(())
    }

    /// Parentheses, and in them items separated by spaces. `item` reads one.
    fn inner_list(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), Syntax>,
    ) -> Result<(), Syntax> {
        self.expect(b'(', "a list must begin with a parenthesis")?;
        for _ in 0..=COMPONENTS_MAX {
            self.take_while(|byte| byte == b' ');
            if self.eat(b')') {
                return Ok(());
            }
            item(self)?;
            if !matches!(self.peek(), Some(b' ' | b')')) {
                return Err(self.error("a space or a closing parenthesis must follow in the list"));
            }
        }
        Err(self.error("more than 32 in one list"))
    }

    fn input(&mut self, label: Span) -> Result<Input, Syntax> {
        let from = self.at_byte;
        let mut covered = Vec::with_capacity(COMPONENTS_USUAL);
        self.inner_list(|at| {
            covered.push(at.component()?);
            Ok(())
        })?;
        let mut parameters = Parameters::default();
        self.parameters(|key, value| {
            let place = match key {
                "alg" => &mut parameters.alg,
                "created" => &mut parameters.created,
                "expires" => &mut parameters.expires,
                "keyid" => &mut parameters.keyid,
                "nonce" => &mut parameters.nonce,
                "tag" => &mut parameters.tag,
                _ => return,
            };
            *place = Some(value);
        })?;
        Ok(Input { label, covered, parameters, raw: self.since(from) })
    }

    fn component(&mut self) -> Result<Covered, Syntax> {
        let from = self.at_byte;
        let name = self.text("a component must be a string in quotes")?;
        let mut is_of_request = false;
        let mut key = None;
        let mut has_other_parameter = false;
        self.parameters(|parameter, value| match (parameter, value) {
            ("req", Value::Boolean(true)) => is_of_request = true,
            ("key", Value::Text(member)) => key = Some(member),
            _ => has_other_parameter = true,
        })?;
        let identifier = self.since(from);
        Ok(Covered { name, is_of_request, key, has_other_parameter, identifier })
    }

    fn bare_item(&mut self) -> Result<Value, Syntax> {
        match self.peek() {
            Some(b'"') => self.text("a string must begin with a quote").map(Value::Text),
            Some(b':') => self.bytes().map(Value::Bytes),
            Some(b'?') => self.boolean().map(Value::Boolean),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'*') => {
                self.take_while(|byte| {
                    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte)
                });
                Ok(Value::Other)
            }
            Some(b'@') => {
                self.skip();
                match self.number()? {
                    Value::Integer(_) => Ok(Value::Other),
                    Value::Text(_) | Value::Bytes(_) | Value::Boolean(_) | Value::Other => {
                        Err(self.error("a date must be a whole number of seconds"))
                    }
                }
            }
            Some(b'%') => self.display_string(),
            Some(_) | None => Err(self.error("a value must follow")),
        }
    }

    fn text(&mut self, why: &'static str) -> Result<Span, Syntax> {
        self.expect(b'"', why)?;
        let from = self.at_byte;
        loop {
            self.take_while(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\');
            match self.peek() {
                Some(b'"') => {
                    let text = self.since(from);
                    self.skip();
                    return Ok(text);
                }
                Some(b'\\') => {
                    self.skip();
                    if !self.eat(b'"') && !self.eat(b'\\') {
                        return Err(self.error("only a quote or a backslash can be escaped"));
                    }
                }
                Some(_) => return Err(self.error("a string must be printable ASCII")),
                None => return Err(self.error("a string must end with a quote")),
            }
        }
    }

    /// Padding may be left out and spare bits may be set, as the RFC asks of readers.
    fn bytes(&mut self) -> Result<Span, Syntax> {
        self.skip();
        let from = self.at_byte;
        let data = self.take_while(|it| it.is_ascii_alphanumeric() || it == b'+' || it == b'/');
        let padding = self.take_while(|byte| byte == b'=');
        let text = self.since(from);
        self.expect(b':', "a byte sequence must be base64 between colons")?;
        let is_padded = padding.len() <= 2 && text.of(self.text).len().is_multiple_of(4);
        if !(padding.is_empty() || is_padded) || data.len() % 4 == 1 {
            return Err(self.error("a byte sequence before this is no base64"));
        }
        Ok(text)
    }

    fn boolean(&mut self) -> Result<bool, Syntax> {
        self.skip();
        if self.eat(b'1') {
            return Ok(true);
        }
        self.expect(b'0', "a boolean must be ?1 or ?0").map(|()| false)
    }

    /// An integer of at most 15 digits, or a decimal of at most 12 and 3.
    fn number(&mut self) -> Result<Value, Syntax> {
        let is_negative = self.eat(b'-');
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        if self.eat(b'.') {
            let fraction = self.take_while(|byte| byte.is_ascii_digit());
            return if matches!(digits.len(), 1..=12) && matches!(fraction.len(), 1..=3) {
                Ok(Value::Other)
            } else {
                Err(self.error("a decimal must have 1 to 12 digits and 1 to 3 after the point"))
            };
        }
        let bad = self.error("an integer must have 1 to 15 digits");
        if digits.len() > 15 {
            return Err(bad);
        }
        let number: i64 = digits.parse().map_err(|_| bad)?;
        Ok(Value::Integer(if is_negative { number.saturating_neg() } else { number }))
    }

    fn display_string(&mut self) -> Result<Value, Syntax> {
        self.skip();
        self.expect(b'"', "a display string must begin with a percent sign and a quote")?;
        let mut decoded = Vec::new();
        loop {
            let plain = self.take_while(|it| matches!(it, b' '..=b'~') && it != b'"' && it != b'%');
            decoded.extend_from_slice(plain.as_bytes());
            if self.eat(b'"') {
                break;
            }
            self.expect(b'%', "a display string must be printable ASCII and end with a quote")?;
            let from = self.at_byte;
            let hex = self.take_while(|it| it.is_ascii_digit() || matches!(it, b'a'..=b'f'));
            let octet = hex.get(..2).and_then(|it| u8::from_str_radix(it, 16).ok());
            decoded.push(octet.ok_or(self.error("an escape must be two lower-case hex digits"))?);
            self.at_byte = from.saturating_add(2);
        }
        std::str::from_utf8(&decoded)
            .map(|_| Value::Other)
            .map_err(|_| self.error("a display string must be UTF-8"))
    }
}
