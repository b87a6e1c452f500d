//! A connection's socket with three habits that the HTTP library does not have: the header of a request must arrive in
//! time once it has begun, an answer must be taken, and a connection that is closed with a request's body still on it is
//! closed gently.
//!
//! A plain close would reset the connection: the peer, still sending, might never read why it was refused. So our half
//! is closed, and what still comes is thrown away for a while.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::{HeaderMap, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::{HEADER_TIMEOUT, Stopping};

/// How long, and how much in bytes, is thrown away behind a refused body.
const LINGER: Duration = Duration::from_secs(3);
const LINGER_MAX_BYTES: usize = 16 * 1024 * 1024;
/// How long a peer may take nothing of an answer. Whoever asks and never reads would keep the answer in memory, and the
/// connection's place, for good.
const STALL: Duration = Duration::from_secs(20);

/// What service and socket of one connection tell each other.
#[derive(Debug)]
pub(super) struct Watched {
    state: AtomicU8,
    pub(super) stopping: Stopping,
}

/// A header is awaited or arriving; the clock runs (on a new connection at once, later from its first byte).
const NEW: u8 = 0;
/// Between two requests: as long as the idle timeout allows.
const IDLE: u8 = 1;
/// The header of a further request is arriving.
const HEADER: u8 = 2;
/// A request is with its handler, or its body is arriving.
const BUSY: u8 = 3;
/// The last answer is out, and the request's body was not read.
const CLOSING: u8 = 4;

impl Watched {
    pub(super) fn new(stopping: Stopping) -> Self {
        Self { state: AtomicU8::new(NEW), stopping }
    }

    pub(super) fn request_began(&self) {
        self.set(BUSY);
    }

    pub(super) fn request_ended(&self, answer: &HeaderMap) {
        let closing = answer.get(header::CONNECTION).is_some_and(|it| it == "close");
        self.set(if closing { CLOSING } else { IDLE });
    }

    fn now(&self) -> u8 {
        self.state.load(Ordering::Relaxed)
    }

    fn set(&self, state: u8) {
        self.state.store(state, Ordering::Relaxed);
    }
}

pub(super) struct Socket<S> {
    inner: S,
    watched: Arc<Watched>,
    /// Runs while a header arrives, and while the rest of a refused body is thrown away. One timer a connection.
    timer: Pin<Box<Sleep>>,
    /// Runs while the peer takes nothing; made by the first write that has to wait.
    stalled: Option<Pin<Box<Sleep>>>,
    thrown_away: Option<usize>,
}

impl<S> Socket<S> {
    pub(super) fn new(inner: S, watched: Arc<Watched>) -> Self {
        let timer = Box::pin(tokio::time::sleep(HEADER_TIMEOUT));
        Self { inner, watched, timer, stalled: None, thrown_away: None }
    }

    /// Lets a write wait for [`STALL`] and no longer. Each part that the peer takes begins the time anew.
    fn in_time<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timer = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, into);
        match (&read, self.watched.now()) {
            (Poll::Ready(Ok(())), IDLE) if into.filled().len() > before => {
                self.watched.set(HEADER);
                let deadline = Instant::now() + HEADER_TIMEOUT;
                self.timer.as_mut().reset(deadline);
            }
            (Poll::Pending, NEW | HEADER) => {
                ready!(self.timer.as_mut().poll(cx));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            _ => {}
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, from);
        self.in_time(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, from);
        self.in_time(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.in_time(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut thrown_away = match this.thrown_away {
            Some(so_far) => so_far,
            None => {
                ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
                if this.watched.now() != CLOSING {
                    return Poll::Ready(Ok(()));
                }
                this.timer.as_mut().reset(Instant::now() + LINGER);
                0
            }
        };
        let mut room = [0; 16 * 1024];
        loop {
            this.thrown_away = Some(thrown_away);
            if thrown_away > LINGER_MAX_BYTES || this.timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut bin = ReadBuf::new(&mut room);
            match ready!(Pin::new(&mut this.inner).poll_read(cx, &mut bin)) {
                Ok(()) if !bin.filled().is_empty() => {
                    thrown_away = thrown_away.saturating_add(bin.filled().len());
                }
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_and_one_that_takes_slowly_is_not() {
        let (_stopped, stopping) = tokio::sync::watch::channel(());
        let watched = Arc::new(Watched::new(Stopping(stopping)));
        let (mine, mut theirs) = tokio::io::duplex(10);
        let mut socket = Socket::new(mine, watched);
        let slowly = async {
            for _ in 0..10 {
                tokio::time::sleep(STALL * 9 / 10).await;
                theirs.read_exact(&mut [0; 10]).await.unwrap();
            }
            theirs
        };
        let (written, theirs) = tokio::join!(socket.write_all(&[7; 105]), slowly);
        written.unwrap();
        let began = Instant::now();
        let given_up = socket.write_all(&[7; 105]).await.unwrap_err();
        assert_eq!(given_up.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), STALL.as_secs());
        drop(theirs);
    }
}
