//! Why a payment was declined: a closed list, in the order in which the checks run. A rejection is an
//! ordinary, final answer, not an error.
//!
//! No text tells a cashier about the payer's money, and none tells anybody about another party's internals.

use serde::{Deserialize, Serialize};

/// What the caller may do after a rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// Nothing: another try ends the same way.
    Never,
    /// Ask the payer for a new code.
    NewCode,
    /// The payer has to do something first.
    PayerActs,
    /// Repeat the same request.
    SameRequest,
}

/// The language of a text for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Japanese.
    Japanese,
}

impl Language {
    /// Reads the first language of an `Accept-Language` header that we have; English otherwise.
    pub fn accept(header: Option<&str>) -> Self {
        let mut tags = header.unwrap_or_default().split(',').map(|tag| tag.trim_start().get(..2));
        match tags.find_map(|tag| {
            tag.filter(|tag| tag.eq_ignore_ascii_case("ja") || tag.eq_ignore_ascii_case("en"))
        }) {
            Some(tag) if tag.eq_ignore_ascii_case("ja") => Self::Japanese,
            Some(_) | None => Self::English,
        }
    }
}

/// What is fixed about one rejection.
#[derive(Debug)]
struct Row {
    name: &'static str,
    retry: Retry,
    /// Response code, ISO 8583-1 field 39 as card terminals print it.
    iso8583: &'static str,
    cashier: [&'static str; 2],
    payer: [&'static str; 2],
}

macro_rules! rejections {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $retry:ident, $iso:literal,
        cashier $ce:literal / $cj:literal, payer $pe:literal / $pj:literal;)*) => {
        /// Why a payment was declined. Variants stand in order of precedence; the numbers never change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Rejection {
            $($(#[$doc])* $variant = $number,)*
        }

        impl Rejection {
            /// All of them, in order of precedence.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its number, in entries and answers.
            pub fn number(self) -> u8 {
                match self { $(Self::$variant => $number,)* }
            }

            fn row(self) -> &'static Row {
                match self { $(Self::$variant => &Row {
                    name: $name, retry: Retry::$retry, iso8583: $iso, cashier: [$ce, $cj], payer: [$pe, $pj],
                },)* }
            }
        }
    };
}

rejections! {
    /// A reversal of this request id came first.
    ReversedBeforeArrival = 1, "reversed_before_arrival", Never, "21",
        cashier "This payment was cancelled." / "この支払いは取り消されました。",
        payer "The shop cancelled this payment. Nothing was paid." / "お店が支払いを取り消しました。支払いは行われていません。";
    /// The reader's deadline passed before a decision.
    DeadlinePassed = 2, "deadline_passed", NewCode, "68",
        cashier "It took too long. Ask for a new code." / "時間切れです。新しいコードを表示してもらってください。",
        payer "It took too long. Show a new code." / "時間切れです。新しいコードを表示してください。";
    /// The reader may not take payments now.
    ReaderSuspended = 3, "reader_suspended", Never, "58",
        cashier "This till may not take payments. Call the manager." / "この端末では支払いを受け付けられません。責任者を呼んでください。",
        payer "This till can't take payments now." / "この端末では現在お支払いいただけません。";
    /// The merchant may not take payments now.
    MerchantSuspended = 4, "merchant_suspended", Never, "03",
        cashier "This shop may not take payments. Call the manager." / "この店舗では支払いを受け付けられません。責任者を呼んでください。",
        payer "This shop can't take payments now." / "この店舗では現在お支払いいただけません。";
    /// No such code, or a wrong secret under a live locator.
    CodeUnknown = 5, "code_unknown", NewCode, "14",
        cashier "The code is not known. Ask for a new one." / "コードを確認できません。新しいコードを表示してもらってください。",
        payer "The code was not recognised. Show a new one." / "コードを確認できませんでした。新しいコードを表示してください。";
    /// The code's lifetime is over.
    CodeExpired = 6, "code_expired", NewCode, "54",
        cashier "The code has expired. Ask for a new one." / "コードの有効期限が切れています。新しいコードを表示してもらってください。",
        payer "The code has expired. Show a new one." / "コードの有効期限が切れました。新しいコードを表示してください。";
    /// The code has paid, or was consumed by a refusal.
    CodeUsed = 7, "code_used", NewCode, "94",
        cashier "The code was used already. Ask for a new one." / "使用済みのコードです。新しいコードを表示してもらってください。",
        payer "This code was used already. Show a new one." / "使用済みのコードです。新しいコードを表示してください。";
    /// A newer code, a withdrawal or too many wrong guesses ended the code.
    CodeRetired = 8, "code_retired", NewCode, "57",
        cashier "The code is no longer valid. Ask for a new one." / "コードは無効になりました。新しいコードを表示してもらってください。",
        payer "This code is no longer valid. Show a new one." / "このコードは無効になりました。新しいコードを表示してください。";
    /// The registration inside a long code does not hold.
    RegistrationInvalid = 9, "registration_invalid", NewCode, "88",
        cashier "The code is not valid. Ask for a new one." / "コードが無効です。新しいコードを表示してもらってください。",
        payer "The code was not valid. Check your phone's clock and show a new one." / "コードが無効です。端末の時刻を確認し、新しいコードを表示してください。";
    /// The link between terminal and account is suspended.
    CredentialSuspended = 20, "credential_suspended", PayerActs, "62",
        cashier "Declined. Ask for another way to pay." / "お取り扱いできません。別のお支払い方法をご案内ください。",
        payer "This phone is suspended. Contact your issuer." / "この端末は利用停止中です。発行会社へお問い合わせください。";
    /// The account is frozen.
    AccountFrozen = 21, "account_frozen", PayerActs, "62",
        cashier "Declined. Ask for another way to pay." / "お取り扱いできません。別のお支払い方法をご案内ください。",
        payer "Your account is frozen. Contact your issuer." / "口座が凍結されています。発行会社へお問い合わせください。";
    /// The account is closed.
    AccountClosed = 22, "account_closed", Never, "46",
        cashier "Declined. Ask for another way to pay." / "お取り扱いできません。別のお支払い方法をご案内ください。",
        payer "Your account is closed." / "口座は解約されています。";
    /// The amount is in another currency than the account.
    CurrencyMismatch = 23, "currency_mismatch", Never, "12",
        cashier "This code can't pay in this currency." / "このコードはこの通貨に対応していません。",
        payer "This account can't pay in this currency." / "この口座はこの通貨でのお支払いに対応していません。";
    /// The amount is above the cap that the payer put on the code.
    OverCodeCap = 24, "over_code_cap", PayerActs, "13",
        cashier "Declined. Ask for a new code or another way to pay." / "お取り扱いできません。新しいコードか別のお支払い方法をご案内ください。",
        payer "The amount is above the limit you put on this code." / "このコードに設定した上限額を超えています。";
    /// The amount is above the limit of one payment.
    OverPaymentLimit = 25, "over_payment_limit", PayerActs, "61",
        cashier "Declined. Ask for another way to pay." / "お取り扱いできません。別のお支払い方法をご案内ください。",
        payer "The amount is above your limit for one payment." / "1回のお支払い上限額を超えています。";
    /// The day's sum would be above its limit.
    OverDailyLimit = 26, "over_daily_limit", PayerActs, "61",
        cashier "Declined. Ask for another way to pay." / "お取り扱いできません。別のお支払い方法をご案内ください。",
        payer "The amount is above what is left of your daily limit." / "本日のお支払い上限額を超えています。";
    /// The day's number of payments is reached.
    OverDailyCount = 27, "over_daily_count", PayerActs, "65",
        cashier "Declined. Ask for another way to pay." / "お取り扱いできません。別のお支払い方法をご案内ください。",
        payer "You reached your number of payments for today." / "本日のお支払い回数の上限に達しました。";
    /// The offline allowance is used up.
    OverOfflineLimit = 28, "over_offline_limit", PayerActs, "61",
        cashier "The payer's phone needs a network for this payment." / "お客様の端末を通信できる状態にしてもらってください。",
        payer "Your phone has to be online for this payment." / "このお支払いには通信が必要です。";
    /// The account does not hold enough.
    InsufficientFunds = 29, "insufficient_funds", PayerActs, "51",
        cashier "Declined. Ask for another way to pay." / "お取り扱いできません。別のお支払い方法をご案内ください。",
        payer "Your balance is too low. Top up and show a new code." / "残高が不足しています。チャージして新しいコードを表示してください。";
    /// The credit line does not reach.
    OverCreditLimit = 30, "over_credit_limit", PayerActs, "51",
        cashier "Declined. Ask for another way to pay." / "お取り扱いできません。別のお支払い方法をご案内ください。",
        payer "The amount is above what is left of your credit." / "ご利用可能額を超えています。";
    /// The payer said no.
    PayerRefused = 31, "payer_refused", NewCode, "17",
        cashier "The payer declined." / "お客様が支払いを拒否しました。",
        payer "You declined this payment." / "この支払いを拒否しました。";
    /// The payer did not confirm in time.
    PayerTimeout = 32, "payer_timeout", NewCode, "68",
        cashier "The payer did not confirm in time. Ask for a new code." / "確認が時間切れになりました。新しいコードを表示してもらってください。",
        payer "You did not confirm in time. Nothing was paid." / "確認が時間切れになりました。支払いは行われていません。";
}

impl Rejection {
    /// Finds a rejection by its number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|it| it.number() == number)
    }

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// What the caller may do.
    pub fn retry(self) -> Retry {
        self.row().retry
    }

    /// The ISO 8583 response code that a card terminal would show.
    pub fn iso8583(self) -> &'static str {
        self.row().iso8583
    }

    /// One sentence for the cashier.
    pub fn cashier(self, language: Language) -> &'static str {
        pick(self.row().cashier, language)
    }

    /// One sentence for the payer.
    pub fn payer(self, language: Language) -> &'static str {
        pick(self.row().payer, language)
    }

    /// Whether the code is spent by this refusal.
    pub fn consumes_code(self) -> bool {
        self.number() >= Self::CredentialSuspended.number()
    }
}

fn pick([english, japanese]: [&'static str; 2], language: Language) -> &'static str {
    match language {
        Language::English => english,
        Language::Japanese => japanese,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_in_order_of_precedence() {
        let numbers: Vec<u8> = Rejection::ALL.iter().map(|it| it.number()).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
        for it in Rejection::ALL {
            assert_eq!(Rejection::from_number(it.number()), Some(*it));
            assert_eq!(Rejection::ALL.iter().filter(|other| other.name() == it.name()).count(), 1);
        }
    }

    #[test]
    fn no_cashier_reads_about_the_payers_money() {
        for it in Rejection::ALL {
            let text = it.cashier(Language::English).to_lowercase();
            for word in ["balance", "funds", "limit", "credit", "frozen", "suspended", "account"] {
                assert!(!text.contains(word), "{}: {text}", it.name());
            }
        }
    }

    #[test]
    fn languages_are_taken_from_the_header() {
        assert_eq!(Language::accept(Some("fr, ja-JP;q=0.8, en")), Language::Japanese);
        assert_eq!(Language::accept(Some("日本")), Language::English);
        assert_eq!(Language::accept(None), Language::English);
    }
}
