//! Notices: opened, counted, told or put as questions, and taken as the sign that the code on the screen is spent.

use warifu_proto::message::{NoticeText, SealedNotice};
use warifu_proto::notice;

use super::{Output, Terminal, Trouble};

/// The kind of notice that asks the payer.
const ASKS: &str = "confirm";
/// How much earlier than a code, by the issuer's clock, a payment by it may seem to be: the rounding of a clock
/// correction and the way of a message.
const NOTICE_LEEWAY_MS: u64 = 2_000;

impl Terminal {
    pub(super) fn notice(&mut self, sealed: &SealedNotice) {
        let last = self.link.counters.notice;
        if sealed.credential_id != self.link.credential || sealed.number <= last {
            return;
        }
        let number = sealed.number;
        let seal_key = &self.link.keys.seal_key;
        let Ok(plain) = notice::open(seal_key, self.link.credential, number, &sealed.sealed) else {
            self.out.push_back(Output::Trouble(Trouble::NoticeForged { number }));
            return;
        };
        let count = number.saturating_sub(last).saturating_sub(1);
        if count > 0 {
            self.out.push_back(Output::Trouble(Trouble::NoticesMissing { count }));
        }
        match serde_json::from_slice::<NoticeText>(&plain) {
            Ok(notice) => {
                self.notice_of_code(&notice);
                if notice.kind == ASKS {
                    self.question(number, notice, plain);
                } else {
                    self.decided(notice.payment_id);
                    self.out.push_back(Output::Notice { number, notice: Box::new(notice) });
                }
            }
            Err(_) => self.out.push_back(Output::Trouble(Trouble::NoticeUnreadable { number })),
        }
        self.link.counters.notice = number;
        self.store();
    }

    /// A code was used while one is shown: most likely that one, so it is time for another. What follows a question is
    /// about the code that the question was about.
    fn notice_of_code(&mut self, notice: &NoticeText) {
        let spends = matches!(notice.kind.as_str(), "paid" | "held" | "declined" | ASKS)
            && !self.is_asked_about(notice.payment_id);
        if let Some(shown) = &mut self.shown {
            let issued_at = shown.sending.registration.statement.issued_at;
            shown.is_over |= spends && notice.at.plus_ms(NOTICE_LEEWAY_MS) >= issued_at;
        }
    }
}
