//! Negotiation with one server: its state, the pack for it, and the transfer method.

use std::io::{self, Cursor, Read};
use std::sync::{Arc, Mutex, PoisonError};

use super::delta::{Delta, Print, Printed};
use super::manifest::Manifest;
use super::pack::{Codec, Old};
use super::script::{self, ARRIVED, Arrival, OFFER, PART};
use super::stream::{Reader, Stream};
use super::{Sent, Shipment};
use crate::deploy::destination::{Destination, Ongoing};
use crate::deploy::error::StepError;
use crate::deploy::run::{StepFrame, bytes};
use crate::deploy::script::folders::Left;
use crate::store::ReleaseId;

/// The size of added files, in bytes, above which received files are read back for their CRC-32
/// instead of SHA-256, which took a fifth of the server's whole work. An attacker who could make
/// another file with the same CRC can write into the release anyway.
const CKSUM_FROM: u64 = 4 << 20;

/// Methods that compute the checksum of one file at a time without printing its name: tools differ
/// in how they print unusual names.
pub(super) const EACH_SHA256SUM: &str = "each-sha256sum";
const EACH_SHASUM: &str = "each-shasum";

/// The method of `tool` for unusual names.
pub(super) fn one_by_one(tool: &'static str) -> &'static str {
    match tool {
        "sha256sum" => EACH_SHA256SUM,
        "shasum" => EACH_SHASUM,
        other => other,
    }
}

/// The capabilities that a server reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// The release is there, unchanged since it was verified.
    There,
    Ready {
        /// `None`: no tar.
        codec: Option<Codec>,
        gnu: bool,
        tools: String,
        /// The release that a delta can start from, and the checksum of its `sums`.
        from: Option<(ReleaseId, String)>,
        /// The same for the recycled folder.
        spare: Option<(ReleaseId, String)>,
    },
}

impl Offer {
    pub(super) fn read(line: &str) -> Option<Self> {
        let mut parts = line.strip_prefix(OFFER)?.split('\t').skip(1);
        let codec = match parts.next()? {
            "there" => return Some(Self::There),
            "zstd" => Some(Codec::Zstd),
            "gzip" => Some(Codec::Gzip),
            "cat" => Some(Codec::Plain),
            _ => None,
        };
        let gnu = parts.next()? == "1";
        let tools = parts.next()?.to_owned();
        let mut release = || {
            let (id, digest) = (parts.next()?, parts.next()?);
            Some(id.parse().ok().map(|id| (ReleaseId(id), digest.to_owned())))
        };
        Some(Self::Ready {
            codec,
            gnu,
            tools,
            from: release()?,
            spare: release()?,
        })
    }

    /// The tool that prints SHA-256 checksums; `zero` for GNU `sha256sum -z`.
    pub(super) fn checksum_tool(&self) -> Option<&'static str> {
        match self {
            Self::Ready { gnu: true, .. } => Some("zero"),
            _ => ["sha256sum", "shasum"]
                .into_iter()
                .find(|tool| self.has(tool)),
        }
    }

    fn has(&self, tool: &str) -> bool {
        matches!(self, Self::Ready { tools, .. } if tools.split(' ').any(|one| one == tool))
    }
}

/// The answer to a server: the line with the instructions and the paths to remove, the pack, and the
/// release it builds on.
pub(super) struct Answer {
    pub(super) line: Vec<u8>,
    pub(super) reader: Reader,
    stream: Stream,
    from: Option<ReleaseId>,
    pub(super) travels: usize,
}

impl Answer {
    /// The answer to a server without tar: no pack.
    fn none() -> Self {
        let stream = Stream::in_memory();
        stream.end(Ok(()));
        Self {
            line: "go none - - - - - 0 0\n".into(),
            reader: stream.reader(),
            stream,
            from: None,
            travels: 0,
        }
    }
}

/// The delta plan, common to servers with the same releases and tools.
pub(super) struct Terms {
    /// The tool for the checksums of the received files, and the checksum of its output.
    print: &'static str,
    sum: String,
    /// The paths to remove from the recycled folder, zero-terminated.
    gone: Vec<u8>,
    fewer_folders: bool,
    travels: usize,
}

/// The server's releases, its SHA-256 tool, and true if it has `cksum`.
pub(super) type TermsKey = ([Option<ReleaseId>; 2], Option<&'static str>, bool);

impl Shipment {
    /// `delta` is true if the server may build on an earlier release.
    pub(super) fn arrival<'a>(&'a self, base: &'a str, delta: bool) -> Arrival<'a> {
        Arrival {
            base,
            release: self.release,
            sums: &self.sums,
            shape: &self.shape,
            modeless: &self.modeless,
            files: self.manifest.files(),
            hard_links: self.hard_links,
            delta,
            owner: &self.owner,
        }
    }

    pub(super) fn answer(&self, offer: &Offer) -> io::Result<Answer> {
        let Offer::Ready {
            codec: Some(codec),
            gnu,
            from,
            spare,
            ..
        } = offer
        else {
            return Ok(Answer::none());
        };
        let known = |there: &Option<(ReleaseId, String)>| {
            let (id, digest) = there.as_ref()?;
            let known = self.known(*id)?;
            (known.sums == *digest).then(|| (*id, Arc::clone(&known.manifest)))
        };
        let release = known(from);
        let old = Old {
            spare: release.as_ref().and_then(|_| known(spare)),
            release,
        };
        let [from, spare] = old.ids();
        let name = |one: Option<ReleaseId>| one.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let terms = self.terms(&old, *gnu, offer);
        let line = format!(
            "go {} {} {} {} {} {} {} {}\n",
            codec.as_str(),
            u8::from(*gnu),
            name(from),
            terms.print,
            terms.sum,
            name(spare),
            terms.gone.len(),
            u8::from(terms.fewer_folders),
        );
        let (reader, stream) = self.packs.pack(*codec, old)?;
        Ok(Answer {
            line: [line.as_bytes(), &terms.gone].concat(),
            reader,
            stream,
            from,
            travels: terms.travels,
        })
    }

    /// The plan, made once for all servers with the same releases and tools.
    fn terms(&self, old: &Old, gnu: bool, offer: &Offer) -> Arc<Terms> {
        let find = || {
            let delta = Delta::between(old.there(), &self.manifest);
            let large = delta.bytes() > CKSUM_FROM;
            let print = match offer.checksum_tool() {
                tool if (large || tool.is_none()) && self.plain_names && offer.has("cksum") => {
                    "cksum"
                }
                _ if gnu && self.plain_names => "check",
                Some(tool) if !self.plain_names => one_by_one(tool),
                tool => tool.unwrap_or("none"),
            };
            let sum = match print {
                "cksum" => delta.cksum(&script::sums(self.release)).to_string(),
                "sha256sum" | "shasum" => Printed::sum(Print::Line, &delta.added),
                EACH_SHA256SUM | EACH_SHASUM => Printed::sum(Print::Nameless, &delta.added),
                _ => "-".to_owned(),
            };
            let gone = delta.gone.iter().flat_map(|path| [*path, b"\0"].concat());
            Arc::new(Terms {
                print,
                sum,
                gone: gone.collect(),
                fewer_folders: delta.fewer_folders,
                travels: delta.travels(),
            })
        };
        let key = (old.ids(), offer.checksum_tool(), offer.has("cksum"));
        let mut found = self.terms.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(found.entry(key).or_insert_with(find))
    }

    /// Brings the release to a server. `base` is the project's folder there. If the files of the
    /// earlier release have changed, everything is sent; if the recycled folder is unfit, the first
    /// attempt has removed it and the second goes without. `then` is a script that the server goes on
    /// with by itself if it can, in which case it is [`Ongoing`].
    pub(in crate::deploy) fn send(
        &self,
        destination: &Destination,
        base: &str,
        then: Option<&str>,
        frame: &StepFrame<'_>,
    ) -> Result<(Sent, Option<Ongoing>), StepError> {
        let attempt = |delta| self.attempt(destination, &self.arrival(base, delta), then, frame);
        let mut first = attempt(true);
        if let Err(StepError::Refused(refusal)) = &first
            && refusal.is_of_a_spare()
        {
            frame.line(&refusal.to_string());
            first = attempt(true);
        }
        match first {
            Err(StepError::Refused(refusal)) if refusal.is_of_a_delta() => {
                frame.line(&refusal.to_string());
                attempt(false)
            }
            Err(error) if error.is_without_shell() => {
                Ok((self.send_by_sftp(destination, base, frame)?, None))
            }
            result => result,
        }
    }

    fn attempt(
        &self,
        destination: &Destination,
        arrival: &Arrival<'_>,
        then: Option<&str>,
        frame: &StepFrame<'_>,
    ) -> Result<(Sent, Option<Ongoing>), StepError> {
        let heard: Mutex<Option<Offer>> = Mutex::default();
        let mut part = None;
        let mut listen = |line: &str| match (Offer::read(line), Left::read(line)) {
            (Some(offer), _) => {
                *heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(offer);
            }
            (_, Some(left)) => frame.line(&left.to_string()),
            _ => match line.strip_prefix(PART).and_then(|it| it.strip_prefix('\t')) {
                Some(name) => part = Some(name.to_owned()),
                None => frame.line(line),
            },
        };
        // A local command's input is copied by its own thread, which must not wait for an offer that
        // may never come. The report is a run of its own there.
        let asked = matches!(destination, Destination::Local);
        if asked {
            frame.run(destination, &script::look_only(arrival), None, &mut listen)?;
        }
        let mut dialogue = Dialogue {
            shipment: self,
            frame,
            heard: &heard,
            asked,
            line: Cursor::default(),
            answer: None,
            sent: 0,
        };
        let is_there = || {
            matches!(
                *heard.lock().unwrap_or_else(PoisonError::into_inner),
                Some(Offer::There)
            )
        };
        let mut ongoing = None;
        if !is_there() {
            let then = then.filter(|_| !asked);
            ongoing = frame.run_until(
                ARRIVED,
                destination,
                &script::take(arrival, asked, then),
                Some(&mut dialogue),
                &mut listen,
            )?;
        }
        let sent = dialogue.sent;
        let answer = dialogue.answer.take();
        let offer = heard.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(offer @ Offer::Ready { codec: None, .. }) = &offer {
            let part = part.unwrap_or_else(|| format!("{}.part", self.release));
            let sent = self.fill_by_sftp(destination, arrival, &part, offer, frame)?;
            return Ok((sent, None));
        }
        let sent = match (offer, answer) {
            (Some(Offer::There), _) => Sent::Nothing,
            (
                _,
                Some(Answer {
                    from: Some(from),
                    travels,
                    ..
                }),
            ) => Sent::Delta {
                bytes: sent,
                files: travels,
                from,
            },
            _ => Sent::Everything { bytes: sent },
        };
        Ok((sent, ongoing))
    }
}

/// The script's input: waits for the server's report, then gives the answer to it.
struct Dialogue<'a> {
    shipment: &'a Shipment,
    frame: &'a StepFrame<'a>,
    heard: &'a Mutex<Option<Offer>>,
    /// True if the report was made before the script began.
    asked: bool,
    line: Cursor<Vec<u8>>,
    answer: Option<Answer>,
    sent: u64,
}

impl Read for Dialogue<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.frame.check().map_err(io::Error::other)?;
        let count = self.line.read(buffer)?;
        if count > 0 {
            return Ok(count);
        }
        if self.answer.is_none() {
            let heard = self
                .heard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            match heard {
                None if self.asked => return Ok(0),
                None => return Err(io::ErrorKind::WouldBlock.into()),
                Some(Offer::There) => return Ok(0),
                Some(offer) => {
                    let answer = self.shipment.answer(&offer)?;
                    self.line = Cursor::new(answer.line.clone());
                    self.answer = Some(answer);
                }
            }
        }
        let count = self.line.read(buffer)?;
        let Some(answer) = self.answer.as_mut().filter(|_| count == 0) else {
            return Ok(count);
        };
        let frame = self.frame;
        let count = answer
            .reader
            .take(buffer, &mut || frame.check().map_err(io::Error::other))?;
        self.sent += count as u64;
        let (sent, (length, is_all)) = (self.sent, answer.stream.length());
        frame.progress(|| match is_all {
            true => format!("{} / {}", bytes(sent), bytes(length)),
            false => bytes(sent),
        });
        Ok(count)
    }
}

/// The manifest of an earlier release and the checksum of its `sums`.
pub(super) struct Known {
    pub(super) manifest: Arc<Manifest>,
    pub(super) sums: String,
}
