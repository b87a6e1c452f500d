//! The wish to stop: SIGINT (Ctrl-C) or SIGTERM. Until somebody asks for it here, both end the process at once,
//! as a client command should.

use std::future::Future;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Takes over both signals at once, and gives what resolves at the first. A second one, while stopping takes
/// its time, ends the process.
pub(crate) fn wished() -> impl Future<Output = ()> + Send {
    let (wish, wished) = oneshot::channel();
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(interrupt), Ok(terminate)) => {
            tokio::spawn(listen(interrupt, terminate, wish));
        }
        // Without handlers the signals still end the process: there is nothing to wait for.
        (Err(_), _) | (_, Err(_)) => drop(wish),
    }
    async move {
        if wished.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn listen(mut interrupt: Signal, mut terminate: Signal, wish: oneshot::Sender<()>) {
    either(&mut interrupt, &mut terminate).await;
    if wish.send(()).is_err() {
        // Nobody waits for the wish any more, so nothing would come of it.
        std::process::exit(130);
    }
    either(&mut interrupt, &mut terminate).await;
    std::process::exit(130);
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
