//! Faults of requests that are refused before they reach a handler.

/// A fault of a request head or of its transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 400: not the head of an HTTP request.
    Head,
    /// 400: no `Host`, or several.
    Host,
    /// 400: a `Content-Length` that is not a number, or several of them.
    Length,
    /// 400: a `Transfer-Encoding` that does not determine the end of the body.
    Coding,
    /// 405: `CONNECT`, or `OPTIONS *`.
    Method,
    /// 408: the head did not arrive in time.
    Slow,
    /// 413: a `Content-Length` that does not fit into 64 bits.
    TooLarge,
    /// 414: the target is too long.
    LongTarget,
    /// 417: an `Expect` other than `100-continue`.
    Expectation,
    /// 431: the head is too long.
    LongHead,
    /// 501: a `Transfer-Encoding` other than `chunked`.
    UnknownCoding,
    /// 505: another version of HTTP.
    Version,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 12] = [
        Self::Head,
        Self::Host,
        Self::Length,
        Self::Coding,
        Self::Method,
        Self::Slow,
        Self::TooLarge,
        Self::LongTarget,
        Self::Expectation,
        Self::LongHead,
        Self::UnknownCoding,
        Self::Version,
    ];

    /// The name of the fault inside this process.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Host => "host",
            Self::Length => "length",
            Self::Coding => "coding",
            Self::Method => "method",
            Self::Slow => "slow",
            Self::TooLarge => "too-large",
            Self::LongTarget => "long-target",
            Self::Expectation => "expectation",
            Self::LongHead => "long-head",
            Self::UnknownCoding => "unknown-coding",
            Self::Version => "version",
        }
    }

    /// The fault with this name.
    pub fn parse(word: &[u8]) -> Option<Self> {
        let is_it = |fault: &Self| fault.as_str().as_bytes() == word;
        Self::ALL.into_iter().find(is_it)
    }

    /// The header that the fault is in, in lower case; empty if it is the whole head.
    pub fn field(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Length | Self::TooLarge => "content-length",
            Self::Coding | Self::UnknownCoding => "transfer-encoding",
            Self::Expectation => "expect",
            Self::Head | Self::Method | Self::Slow => "",
            Self::LongTarget | Self::LongHead | Self::Version => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_its_own_fault() {
        for fault in Fault::ALL {
            assert_eq!(Fault::parse(fault.as_str().as_bytes()), Some(fault));
        }
        assert_eq!(Fault::parse(b"x"), None);
    }
}
