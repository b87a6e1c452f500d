//! Server-sent events, as the HTML standard reads them: lines ended by LF, CR or CR LF, an empty line ends an event.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::time::timeout;

use super::CallError;

/// Longest event, in bytes: a notice is under 4 KiB.
const EVENT_MAX_BYTES: usize = 256 * 1024;

/// One server-sent event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// The last `id` received, on this event or before it.
    pub id: Option<String>,
    /// Its `event`; `message` when it has none.
    pub event: String,
    /// Its `data`, lines joined by `\n`.
    pub data: String,
}

/// Events until the connection ends. An error is the last item. Reconnecting is the caller's, with the last id it has
/// dealt with.
pub type Events = BoxStream<'static, Result<Event, CallError>>;

struct Source {
    response: reqwest::Response,
    url: String,
    silence: Duration,
    parser: Parser,
    ready: VecDeque<Event>,
    ended: bool,
}

/// The events of a response whose head was checked.
pub(super) fn events(response: reqwest::Response, url: String, silence: Duration) -> Events {
    let parser = Parser::default();
    let source = Source { response, url, silence, parser, ready: VecDeque::new(), ended: false };
    stream::unfold(source, |mut source| async move {
        let next = source.next().await?;
        source.ended = next.is_err();
        Some((next, source))
    })
    .boxed()
}

impl Source {
    async fn next(&mut self) -> Option<Result<Event, CallError>> {
        if self.ended {
            return None;
        }
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            let url = self.url.clone();
            match timeout(self.silence, self.response.chunk()).await {
                Err(_elapsed) => return Some(Err(CallError::TimedOut { url })),
                Ok(Ok(None)) => return None,
                Ok(Ok(Some(chunk))) => {
                    if !self.parser.push(&chunk, &mut self.ready) {
                        let why = "an event is too long".to_owned();
                        return Some(Err(CallError::Broken { url, why }));
                    }
                }
                Ok(Err(error)) => {
                    return Some(Err(CallError::Broken { url, why: error.to_string() }));
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct Parser {
    line: Vec<u8>,
    after_cr: bool,
    id: Option<String>,
    event: String,
    data: Option<String>,
}

impl Parser {
    /// Takes what arrived and gives the events that it ends. False when an event is too long.
    fn push(&mut self, chunk: &[u8], into: &mut VecDeque<Event>) -> bool {
        for byte in chunk {
            let was_cr = std::mem::take(&mut self.after_cr);
            match byte {
                b'\n' if was_cr => {}
                b'\n' | b'\r' => {
                    self.after_cr = *byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    self.end_line(&String::from_utf8_lossy(&line), into);
                }
                _ => self.line.push(*byte),
            }
        }
        let data = self.data.as_ref().map_or(0, String::len);
        self.line.len().saturating_add(data) <= EVENT_MAX_BYTES
    }

    fn end_line(&mut self, line: &str, into: &mut VecDeque<Event>) {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            // Without data it is no event.
            if let Some(data) = self.data.take() {
                let event = if event.is_empty() { "message".to_owned() } else { event };
                into.push_back(Event { id: self.id.clone(), event, data });
            }
            return;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => self.event = value.to_owned(),
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "data" => match &mut self.data {
                Some(data) => data.extend(["\n", value]),
                None => self.data = Some(value.to_owned()),
            },
            // Comments (no name) keep the connection alive; other fields mean nothing here.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = ": hi\n\nid: 7\nevent: notice\ndata: one\ndata:two\n\ndata: three\r\rid\r\nevent: x\r\n\r\ndata\r\n\r\ndata: cut";

    fn wanted() -> Vec<Event> {
        let event = |id: Option<&str>, event: &str, data: &str| Event {
            id: id.map(str::to_owned),
            event: event.to_owned(),
            data: data.to_owned(),
        };
        vec![
            event(Some("7"), "notice", "one\ntwo"),
            event(Some("7"), "message", "three"),
            event(Some(""), "message", ""),
        ]
    }

    #[test]
    fn events_are_read_however_the_bytes_arrive() {
        for size in [1, 2, 3, 7, TEXT.len()] {
            let (mut parser, mut into) = (Parser::default(), VecDeque::new());
            for chunk in TEXT.as_bytes().chunks(size) {
                assert!(parser.push(chunk, &mut into));
            }
            assert_eq!(into, wanted(), "in pieces of {size}");
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let (mut parser, mut into) = (Parser::default(), VecDeque::new());
        let line = format!("data: {}\n", "x".repeat(1000));
        let taken = (0..1000).take_while(|_| parser.push(line.as_bytes(), &mut into)).count();
        assert!((200..300).contains(&taken), "{taken}");
        assert!(!Parser::default().push(&vec![b'x'; EVENT_MAX_BYTES + 1], &mut into));
    }
}
