//! `warifu terminal watch`: tells what is paid, as it happens, and starts again where it left off.

use warifu_terminal::Input;

use super::WatchArgs;
use super::ask::{Asker, Step};
use super::drive::{Driver, Event};
use super::folder::Folder;
use super::say::{no_notices, notice_line, notice_object};
use crate::fail::Failure;
use crate::out::Out;
use crate::{paths, stop};

pub(super) async fn run(args: &WatchArgs, out: &Out) -> Result<(), Failure> {
    let mut asker = Asker::new(&args.ask, &args.folder.dir, out)?;
    let folder = Folder::new(&args.folder.dir);
    let Some(mut driver) = Driver::listening(folder).await? else {
        let dir = paths::shown(&args.folder.dir);
        return Err(Failure::usage(format_args!(
            "another warifu tells the notices of {dir} already"
        ))
        .next("end `warifu terminal show` or `watch` on this folder first"));
    };
    let account = &driver.link().account.name;
    out.progress(format_args!("waiting for notices to {account}; Ctrl-C ends"));
    let stop = stop::wished();
    tokio::pin!(stop);
    loop {
        let event = tokio::select! {
            event = driver.next() => event?,
            (payment, verdict) = asker.answer() => {
                driver.give(Input::Verdict { payment, verdict })?;
                continue;
            }
            () = &mut stop => return Ok(()),
        };
        let event = match asker.take(event, &mut driver)? {
            Step::Other(event) => event,
            Step::Nothing => continue,
            Step::Told { line, object } => {
                out.say(line);
                out.object(&object);
                if args.once || out.is_closed() {
                    return Ok(());
                }
                continue;
            }
        };
        match event {
            Event::Notice { number, notice } => {
                out.say(notice_line(&notice, driver.link()));
                out.object(&notice_object(number, &notice));
                if args.once || out.is_closed() {
                    return Ok(());
                }
                asker.again();
            }
            Event::Trouble(trouble) => out.warn(trouble),
            Event::NoNotices(problem) => {
                return Err(no_notices(*problem, driver.link()));
            }
            // Nothing is shown by this command; questions were taken before.
            _ => {}
        }
    }
}
