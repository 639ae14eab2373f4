//! The health check: reads the tries that its script reports and decides the result. Pure.
//!
//! A check is a project's command, tried about every second on a server after the restart. It holds
//! once every try of a steady time has exited 0: a service that dies two seconds after its restart
//! passes its first tries and must not pass the check.

use std::collections::VecDeque;
use std::fmt;

use crate::ssh::Exit;
use crate::store::ReleaseId;

use super::error::StepError;

/// The start of the line with which the script ends a try, after an empty line. The outcome and the
/// number of seconds the check has held follow, each after a tab.
pub(super) const MARK: &str = "longshore-health";
/// The outcome of a try that took too long and was ended.
pub(super) const LATE: &str = "late";
/// The time that a check must hold, in seconds.
const STEADY: u32 = 5;
/// The time limit of one try, in seconds.
pub(super) const TRY: u32 = 10;

/// The number of lines that are kept of a try.
const LINES: usize = 20;
/// The number of characters that are kept of a line.
const LONGEST_LINE: usize = 300;
/// The number of characters of a try's output that the node's message repeats.
const LONGEST_OUTPUT: usize = 500;

/// The times of a check, in seconds. The limit always leaves time to hold: a try takes a second, and
/// the steady time counts from the first try that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    /// The time limit.
    pub(super) seconds: u32,
    /// The steady time.
    pub(super) steady: u32,
}

impl Times {
    pub(super) fn within(seconds: i32) -> Self {
        let seconds = u32::try_from(seconds).unwrap_or_default().max(1);
        Self {
            seconds,
            steady: STEADY.min(seconds - 1),
        }
    }
}

/// The end of one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TryEnd {
    Exit(Exit),
    /// It took longer than [`TRY`].
    Late,
}

impl fmt::Display for TryEnd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(exit) => write!(formatter, "its last failed try ended with {exit}"),
            Self::Late => formatter.write_str("its tries took too long"),
        }
    }
}

/// A check that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unhealthy {
    pub(super) times: Times,
    pub(super) end: TryEnd,
    /// The last lines of the last failed try; may be empty.
    pub(super) output: String,
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Times { seconds, steady } = self.times;
        write!(
            formatter,
            "the health check did not hold for {steady} s within {seconds} s; {}",
            self.end
        )?;
        match self.output.as_str() {
            "" => Ok(()),
            output => write!(formatter, ": {output}"),
        }
    }
}

/// The release or path that was live on a server before a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Earlier {
    /// A release of the project.
    Release(ReleaseId),
    /// Another path that the link `current` pointed to.
    Path(String),
}

impl fmt::Display for Earlier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Release(release) => write!(formatter, "release {release}"),
            Self::Path(path) => formatter.write_str(path),
        }
    }
}

/// The state of a server after a release that does not work there.
#[derive(Debug)]
pub(super) enum WayBack {
    /// Back at the earlier target; the restart command succeeded.
    Gone(Earlier),
    /// Back at the earlier target; the restart command failed.
    NotRestarted(Earlier, Box<StepError>),
    /// Still at the new release: the rollback failed.
    NotGone(Earlier, Box<StepError>),
    /// Still at the new release: nothing else was live before.
    Nowhere,
}

impl fmt::Display for WayBack {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone(earlier) => write!(formatter, "went back to {earlier}"),
            Self::NotRestarted(earlier, why) => write!(
                formatter,
                "went back to {earlier}, but its restart failed: {why}"
            ),
            Self::NotGone(earlier, why) => {
                write!(formatter, "going back to {earlier} failed as well: {why}")
            }
            Self::Nowhere => formatter
                .write_str("no other release was live here before, so this one stays in place"),
        }
    }
}

/// The node's display of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// Lines for its log; may be empty.
    Lines(Vec<String>),
    /// The number of seconds that the check has held.
    Holding(u32),
}

/// Reads the output of a check's script.
pub(super) struct Tries {
    times: Times,
    count: u32,
    /// The output of the current try.
    lines: VecDeque<String>,
    /// The last try that failed.
    failed: Option<(TryEnd, Vec<String>)>,
}

impl Tries {
    pub(super) fn new(times: Times) -> Self {
        Self {
            times,
            count: 0,
            lines: VecDeque::new(),
            failed: None,
        }
    }

    /// Takes a line. A try that fails as the one before it is not shown again.
    pub(super) fn hear(&mut self, line: &str) -> Shown {
        let Some((end, held)) = read(line) else {
            if self.lines.len() == LINES {
                self.lines.pop_front();
            }
            self.lines
                .push_back(line.chars().take(LONGEST_LINE).collect());
            return Shown::Lines(Vec::new());
        };
        self.count += 1;
        if self.lines.back().is_some_and(String::is_empty) {
            self.lines.pop_back();
        }
        let said: Vec<String> = self.lines.drain(..).collect();
        if let Some(held) = held {
            return Shown::Holding(held);
        }
        let failed = Some((end.clone(), said.clone()));
        if self.failed == failed {
            return Shown::Lines(Vec::new());
        }
        self.failed = failed;
        let mut shown = said;
        shown.push(match end {
            TryEnd::Exit(exit) => format!("try {}: {exit}", self.count),
            TryEnd::Late => format!("try {}: ended, it took longer than {TRY} s", self.count),
        });
        Shown::Lines(shown)
    }

    /// The failure of a check whose script ended by itself without holding. `None` if there was no
    /// try. If no try failed, they took too long to pass often enough.
    pub(super) fn verdict(&self) -> Option<Unhealthy> {
        if self.count == 0 {
            return None;
        }
        let (end, lines) = self.failed.clone().unwrap_or((TryEnd::Late, Vec::new()));
        let output = lines.join(" / ");
        let skipped = output.chars().count().saturating_sub(LONGEST_OUTPUT);
        Some(Unhealthy {
            times: self.times,
            end,
            output: output.chars().skip(skipped).collect(),
        })
    }

    /// The output of a try that has not ended.
    pub(super) fn unfinished(&mut self) -> Vec<String> {
        self.lines.drain(..).collect()
    }
}

/// Reads the line that ends a try: its end and, if it passed, the seconds that the check has held.
fn read(line: &str) -> Option<(TryEnd, Option<u32>)> {
    let mut parts = line.strip_prefix(MARK)?.strip_prefix('\t')?.split('\t');
    let end = match parts.next()? {
        LATE => TryEnd::Late,
        code => TryEnd::Exit(Exit {
            code: Some(code.parse().ok()?),
            signal: None,
        }),
    };
    Some((end, parts.next()?.parse().ok()))
}

#[cfg(test)]
impl Unhealthy {
    /// Failed steps of every kind that a failed check can lead to.
    pub(super) fn samples() -> Vec<StepError> {
        let exit = Exit {
            code: Some(7),
            signal: None,
        };
        let unhealthy = |output: &str, end| Self {
            times: Times::within(30),
            end,
            output: output.to_owned(),
        };
        let why = || Box::new(StepError::Stopped);
        let earlier = [
            Earlier::Release(ReleaseId(7)),
            Earlier::Path("/srv/old".to_owned()),
        ];
        let ways = earlier.into_iter().flat_map(|earlier| {
            [
                WayBack::Gone(earlier.clone()),
                WayBack::NotRestarted(earlier.clone(), why()),
                WayBack::NotGone(earlier, why()),
            ]
        });
        let ways = ways.chain([WayBack::Nowhere]);
        let sent_back = ways.map(|way| StepError::SentBack {
            cause: Box::new(StepError::Unhealthy(unhealthy("gone", TryEnd::Late))),
            way,
        });
        let mut samples: Vec<StepError> = sent_back.collect();
        samples.push(StepError::Unhealthy(unhealthy("", TryEnd::Exit(exit))));
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: i32) -> TryEnd {
        TryEnd::Exit(Exit {
            code: Some(code),
            signal: None,
        })
    }

    fn end(outcome: &str, held: i32) -> String {
        format!("{MARK}\t{outcome}\t{held}")
    }

    #[test]
    fn a_check_always_has_the_time_to_hold() {
        for (given, seconds, steady) in [
            (30, 30, 5),
            (600, 600, 5),
            (6, 6, 5),
            (3, 3, 2),
            (1, 1, 0),
            (0, 1, 0),
        ] {
            assert_eq!(Times::within(given), Times { seconds, steady });
        }
    }

    #[test]
    fn tries_that_fail_alike_are_shown_once() {
        let mut tries = Tries::new(Times::within(30));
        let mut hear = |lines: &[&str], outcome: &str, held| {
            for line in lines {
                assert_eq!(tries.hear(line), Shown::Lines(vec![]));
            }
            tries.hear(&end(outcome, held))
        };
        let lines = |lines: &[&str]| Shown::Lines(lines.iter().map(|&line| line.into()).collect());
        assert_eq!(
            hear(&["refused"], "7", -1),
            lines(&["refused", "try 1: exit code 7"])
        );
        assert_eq!(hear(&["refused"], "7", -1), lines(&[]));
        assert_eq!(hear(&["ok"], "0", 0), Shown::Holding(0));
        assert_eq!(hear(&["ok"], "0", 1), Shown::Holding(1));
        assert_eq!(
            hear(&["502"], "22", -1),
            lines(&["502", "try 5: exit code 22"])
        );
        assert_eq!(
            hear(&["wait"], LATE, -1),
            lines(&["wait", "try 6: ended, it took longer than 10 s"])
        );
        let verdict = tries.verdict().unwrap();
        assert_eq!(
            (&verdict.end, verdict.output.as_str()),
            (&TryEnd::Late, "wait")
        );
    }

    #[test]
    fn what_is_kept_of_a_loud_try_is_its_end() {
        let mut tries = Tries::new(Times::within(30));
        for number in 0..10_000 {
            tries.hear(&format!("{number} {}", "x".repeat(90_000)));
        }
        assert_eq!(tries.lines.len(), LINES);
        assert!(tries.lines.iter().all(|line| line.len() <= LONGEST_LINE));
        tries.hear("the reason");
        tries.hear(&end("1", -1));
        let verdict = tries.verdict().unwrap();
        assert_eq!(verdict.end, exit(1));
        assert_eq!(verdict.output.chars().count(), LONGEST_OUTPUT);
        assert!(verdict.output.ends_with(" / the reason"));
    }

    #[test]
    fn a_check_without_a_try_has_no_verdict_and_one_that_only_passed_was_late() {
        let mut tries = Tries::new(Times::within(30));
        assert_eq!(tries.verdict(), None);
        tries.hear(&end("0", 0));
        tries.hear("half a");
        assert_eq!(tries.verdict().unwrap().end, TryEnd::Late);
        assert_eq!(tries.unfinished(), ["half a"]);
        assert_eq!(read("longshore-health\tnonsense\t1"), None);
        assert_eq!(read("longshore-healthy"), None);
    }
}
