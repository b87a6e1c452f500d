//! `warifu terminal show`: a code on the screen or in a picture, renewed until the payer leaves.
//!
//! Law: no dead code stays: what expires is taken off the screen and its picture is deleted; leaving takes the code
//! back at the issuer, unless a script asked for one code to use (`--once`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use warifu_proto::limits::CODE_DIGITS;
use warifu_proto::registration::CAP_MAX;
use warifu_proto::time::Timestamp;
use warifu_terminal::picture::{Colours, Picture, Symbology};
use warifu_terminal::{Input, Link, Screen, Trouble, Wish};

use super::ask::{Asker, Step};
use super::drive::{Driver, Event};
use super::folder::{Folder, Only};
use super::say::{
    grouped, is_long, no_notices, notice_line, notice_object, or_link_ended, time_of_day,
};
use super::{ShowArgs, atomic};
use crate::fail::{Exit, Failure};
use crate::out::Out;
use crate::{paths, stop};

/// How long `--once` waits for the acknowledgement.
const ONCE_PATIENCE: Duration = Duration::from_secs(10);
/// How long leaving waits for the code to be taken back.
const LEAVE_PATIENCE: Duration = Duration::from_secs(3);
/// How many notices stay under the code.
const NOTICES_KEPT: usize = 5;

pub(super) async fn run(args: &ShowArgs, out: &Out) -> Result<(), Failure> {
    let folder = Folder::new(&args.folder.dir);
    let link = folder.linked()?;
    let wish = wish(args, &link)?;
    let mut board = Board::new(args, &link, out)?;
    let mut asker = Asker::new(&args.ask, folder.dir(), out)?;
    let Some(_only) = folder.only_one(Only::Shows)? else {
        let dir = paths::shown(folder.dir());
        return Err(Failure::usage(format_args!("another warifu shows codes of {dir} already"))
            .next("end that one first, or link another folder to the account"));
    };
    let mut driver = Driver::open(folder).await?;
    if !args.once && !driver.listen()? {
        out.progress("another warifu tells the notices of this folder");
    }
    driver.give(Input::Show(wish))?;
    if args.once {
        once(&mut driver, &mut board).await
    } else {
        stay(&mut driver, &mut board, &mut asker).await
    }
}

/// What the payer asked for, checked against what the issuer allows.
fn wish(args: &ShowArgs, link: &Link) -> Result<Wish, Failure> {
    let lifetime_max_s = link.lifetime_max_s();
    if args.lifetime > lifetime_max_s {
        let issuer = &link.issuer.name;
        return Err(Failure::usage(format_args!(
            "--lifetime {}: {issuer} allows at most {lifetime_max_s} seconds",
            args.lifetime
        ))
        .next(format_args!("give --lifetime {lifetime_max_s} or less")));
    }
    let currency = link.currency();
    let cap_minor = args.cap.as_deref().map(|text| {
        currency.parse_minor(text).map_err(Failure::from).and_then(|cap| match cap {
            1..=CAP_MAX => Ok(cap),
            _ => Err(Failure::usage("a cap is above zero")),
        })
    });
    let cap_minor = cap_minor
        .transpose()
        .map_err(|failure| failure.during(format_args!("--cap, in {}", currency.code)))?;
    Ok(Wish { lifetime_s: args.lifetime, cap_minor })
}

/// Shows one code, waits until the issuer has it, and leaves it payable.
async fn once(driver: &mut Driver, board: &mut Board) -> Result<(), Failure> {
    let deadline = Instant::now() + ONCE_PATIENCE;
    loop {
        let event = tokio::select! {
            event = driver.next() => event?,
            () = tokio::time::sleep_until(deadline) => {
                board.out.object(&board.object());
                board.out.warn("the issuer has not said that it has the code");
                return Err(Failure::told(Exit::Unreachable));
            }
        };
        match event {
            Event::Show(screen) => board.show(screen)?,
            Event::Acked { expires_at } => {
                board.acked(expires_at);
                board.out.object(&board.object());
                return Ok(());
            }
            Event::Hide => board.hide()?,
            Event::Trouble(trouble @ Trouble::Refused { .. }) => {
                board.hide()?;
                return Err(refused(&trouble, driver));
            }
            Event::Trouble(trouble) => board.out.warn(trouble),
            // Who asks for one code to use does not listen.
            _ => {}
        }
    }
}

fn refused(trouble: &Trouble, driver: &Driver) -> Failure {
    let failure = Failure::refused(trouble);
    match trouble {
        Trouble::Refused { code, .. } => or_link_ended(failure, code, driver.link()),
        _ => failure,
    }
}

/// Shows codes until the payer leaves.
async fn stay(driver: &mut Driver, board: &mut Board, asker: &mut Asker) -> Result<(), Failure> {
    let stop = stop::wished();
    tokio::pin!(stop);
    let mut told_of_no_notices = false;
    loop {
        let event = tokio::select! {
            event = driver.next() => event?,
            (payment, verdict) = asker.answer() => {
                driver.give(Input::Verdict { payment, verdict })?;
                continue;
            }
            () = &mut stop => break,
        };
        let event = match asker.take(event, driver)? {
            Step::Other(event) => event,
            Step::Nothing => continue,
            Step::Told { line, object } => {
                board.tell(line, &object);
                continue;
            }
        };
        match event {
            Event::Show(screen) => {
                board.show(screen)?;
                asker.again();
            }
            Event::Acked { expires_at } => board.acked(expires_at),
            Event::Hide => board.hide()?,
            Event::Notice { number, notice } => {
                board.tell(notice_line(&notice, driver.link()), &notice_object(number, &notice));
                asker.again();
            }
            Event::Trouble(trouble) => board.out.warn(trouble),
            Event::NoNotices(problem) if !told_of_no_notices => {
                told_of_no_notices = true;
                board.out.warn(no_notices(*problem, driver.link()));
            }
            // Questions were taken before.
            _ => {}
        }
        if board.out.is_closed() && board.picture.is_none() {
            break;
        }
    }
    leave(driver, board).await
}

async fn leave(driver: &mut Driver, board: &mut Board) -> Result<(), Failure> {
    driver.give(Input::Leave)?;
    let deadline = Instant::now() + LEAVE_PATIENCE;
    let expires_at = board.shown.as_ref().map(|screen| screen.expires_at);
    let acked = loop {
        let event = tokio::select! {
            event = driver.next() => event?,
            () = tokio::time::sleep_until(deadline) => break false,
        };
        match event {
            Event::Hide => board.hide()?,
            Event::Withdrawn { acked } => break acked,
            Event::Notice { number, notice } => {
                board.tell(notice_line(&notice, driver.link()), &notice_object(number, &notice));
            }
            _ => {}
        }
    };
    board.hide()?;
    match expires_at.filter(|_| !acked) {
        None => board.out.say("the code is taken back"),
        Some(at) => board.out.say(format_args!(
            "the issuer could not be told: the code can be paid with until {}",
            time_of_day(at)
        )),
    }
    board.out.object(&json!({ "event": "withdrawn", "acked": acked }));
    Ok(())
}

/// The payer's screen.
#[derive(Debug)]
struct Board {
    out: Out,
    symbology: Symbology,
    picture: Option<PathBuf>,
    prints_digits: bool,
    is_once: bool,
    /// Whether it can be wiped: a person looks at it.
    is_screen: bool,
    colours: Colours,
    heading: String,
    shown: Option<Screen>,
    notices: Vec<String>,
}

impl Board {
    fn new(args: &ShowArgs, link: &Link, out: &Out) -> Result<Self, Failure> {
        let symbology = Symbology::from(args.symbology);
        if args.out.is_none() && symbology == Symbology::Code128 && !out.json {
            return Err(Failure::usage("bars can't be drawn in a terminal")
                .next("write them to a picture: --symbology code128 --out code.png"));
        }
        if let Some(path) = &args.out {
            format_of(path)?;
        }
        let is_screen = std::io::IsTerminal::is_terminal(&std::io::stdout());
        let cap = args
            .cap
            .as_ref()
            .map_or_else(String::new, |cap| format!(", at most {cap} {}", link.account.currency));
        Ok(Self {
            out: out.clone(),
            symbology,
            picture: args.out.clone(),
            prints_digits: args.digits,
            is_once: args.once,
            is_screen,
            colours: if is_screen { Colours::Explicit } else { Colours::PlainOnDark },
            heading: format!("{} at {}{cap}", link.account.name, link.issuer.name),
            shown: None,
            notices: Vec::new(),
        })
    }

    fn show(&mut self, screen: Screen) -> Result<(), Failure> {
        // A long code does not fit into bars.
        let symbology = if is_long(&screen.digits) { Symbology::Qr } else { self.symbology };
        let drawn = Picture::draw(symbology, &screen.digits)
            .map_err(|error| Failure::usage("the code can't be drawn").because(&error))?;
        match &self.picture {
            Some(path) => write_picture(path, &drawn)?,
            None if self.out.json => {}
            None => {
                let text = drawn
                    .to_terminal(self.colours)
                    .map_err(|error| Failure::usage("the code can't be drawn").because(&error))?;
                let wipe =
                    if self.is_screen && self.shown.is_some() { "\u{1b}[2J\u{1b}[H" } else { "" };
                self.out.raw(&format!("{wipe}{text}"));
            }
        }
        self.shown = Some(screen);
        self.tell_code();
        Ok(())
    }

    fn tell_code(&self) {
        let Some(screen) = &self.shown else { return };
        let until = time_of_day(screen.expires_at);
        let end = if self.is_once { "" } else { "   (Ctrl-C takes it back)" };
        self.out.say(&self.heading);
        if let Some(path) = &self.picture {
            self.out.say(format_args!("picture: {}", paths::shown(path)));
        }
        if self.prints_digits {
            self.out.say(grouped(&screen.digits));
        }
        if is_long(&screen.digits) {
            self.out.say(format_args!(
                "The hub does not answer. This long code works without: until {until}{end}"
            ));
        } else {
            self.out.say(format_args!("Pay until {until}{end}"));
        }
        for notice in &self.notices {
            self.out.say(notice);
        }
        if !self.is_once {
            self.out.object(&self.object());
        }
    }

    fn acked(&mut self, expires_at: Timestamp) {
        let Some(screen) = &mut self.shown else { return };
        screen.is_acked = true;
        screen.expires_at = expires_at;
        self.out.say(format_args!("The issuer has it: pay until {}", time_of_day(expires_at)));
        if !self.is_once {
            self.out.object(&self.object());
        }
    }

    fn hide(&mut self) -> Result<(), Failure> {
        let Some(_dead) = self.shown.take() else { return Ok(()) };
        if let Some(path) = &self.picture {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(paths::cannot("deleted", path, &error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        if !self.is_once {
            self.out.object(&json!({ "event": "hidden" }));
        }
        Ok(())
    }

    fn tell(&mut self, line: String, object: &Value) {
        self.out.say(&line);
        self.out.object(object);
        self.notices.push(line);
        if self.notices.len() > NOTICES_KEPT {
            self.notices.remove(0);
        }
    }

    /// The code for a program.
    fn object(&self) -> Value {
        let Some(screen) = &self.shown else { return json!({ "event": "code", "acked": false }) };
        json!({
            "event": "code",
            "code": *screen.digits,
            "long": screen.digits.len() > CODE_DIGITS,
            "expires_ms": screen.expires_at.as_ms(),
            "acked": screen.is_acked,
            "sequence": screen.sequence,
            "out": self.picture,
        })
    }
}

/// What a picture's file is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Png,
    Svg,
}

fn format_of(path: &Path) -> Result<Format, Failure> {
    let extension = path.extension().and_then(|it| it.to_str()).map(str::to_ascii_lowercase);
    match extension.as_deref() {
        Some("png") => Ok(Format::Png),
        Some("svg") => Ok(Format::Svg),
        Some(_) | None => Err(Failure::usage(format_args!(
            "--out {}: a picture's name ends in .png or .svg",
            path.display()
        ))),
    }
}

fn write_picture(path: &Path, drawn: &Picture) -> Result<(), Failure> {
    let content = match format_of(path)? {
        Format::Svg => drawn.to_svg().into_bytes(),
        Format::Png => drawn
            .to_png(drawn.symbology().default_module_px())
            .map_err(|error| Failure::usage("the code can't be drawn").because(&error))?,
    };
    atomic::write(path, &content)
}
