//! `warifu terminal watch`: tells what is paid, as it happens, and starts again where it left off.

use super::WatchArgs;
use super::drive::{Driver, Event};
use super::folder::Folder;
use super::say::{notice_line, notice_object};
use crate::fail::Failure;
use crate::out::Out;
use crate::{paths, stop};

pub(super) async fn run(args: &WatchArgs, out: &Out) -> Result<(), Failure> {
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
            () = &mut stop => return Ok(()),
        };
        match event {
            Event::Notice { number, notice } => {
                out.say(notice_line(&notice, driver.link()));
                out.object(&notice_object(number, &notice));
                if args.once || out.is_closed() {
                    return Ok(());
                }
            }
            Event::Trouble(trouble) => out.warn(trouble),
            Event::NoNotices(problem) => {
                return Err(Failure::problem(*problem).during("the hub gives no notices"));
            }
            // Nothing is shown by this command.
            Event::Show(_) | Event::Acked { .. } | Event::Hide | Event::Withdrawn { .. } => {}
        }
    }
}
