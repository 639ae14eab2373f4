//! OpenSSH's replacing rename (`posix-rename@openssh.com`), which the binding to libssh2 does not
//! offer: four SFTP packets, over a channel of their own.

use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ssh2::{Channel, ErrorCode};

use super::link::{Fault, Link, Patience};

const EXTENSION: &[u8] = b"posix-rename@openssh.com";

/// The version of SFTP that all servers support.
const VERSION: u32 = 3;

/// The types of packets.
const INIT: u8 = 1;
const VERSION_TOLD: u8 = 2;
const STATUS: u8 = 101;
const EXTENDED: u8 = 200;

/// The number of the only request.
const REQUEST: u32 = 1;

/// The longest answer that is accepted, in bytes.
const LONGEST: usize = 64 * 1024;

const UNSUPPORTED: i32 = 8;

/// Renames `from` to `to`, replacing what is there, over `channel`, which is new. The fault has
/// SFTP's code 8 if the server lacks the extension.
pub(super) fn posix_rename(
    link: &Link,
    patience: Patience<'_>,
    mut channel: Channel,
    from: &Path,
    to: &Path,
) -> Result<(), Fault> {
    link.drive(patience, || Ok(channel.subsystem("sftp")?))?;
    let mut talk = Talk {
        link,
        patience,
        channel,
    };
    let renamed = talk.rename(from, to);
    let _ = talk.end();
    renamed
}

fn refused(code: i32) -> Fault {
    Fault::from(ssh2::Error::from_errno(ErrorCode::SFTP(code)))
}

/// True if the server's first packet lists the extension among its pairs of a name and a value.
fn offers(told: &[u8]) -> bool {
    let mut rest = told.get(4..).unwrap_or_default();
    let mut texts = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = u32::from_be_bytes(*length) as usize;
        let Some((text, after)) = after.split_at_checked(length) else {
            break;
        };
        texts.push(text);
        rest = after;
    }
    texts.chunks(2).any(|pair| pair == [EXTENSION, b"1"])
}

struct Talk<'a> {
    link: &'a Link,
    patience: Patience<'a>,
    channel: Channel,
}

impl Talk<'_> {
    fn rename(&mut self, from: &Path, to: &Path) -> Result<(), Fault> {
        self.say(INIT, &VERSION.to_be_bytes())?;
        let told = self.hear(VERSION_TOLD)?;
        let mut request = REQUEST.to_be_bytes().to_vec();
        for part in [
            EXTENSION,
            from.as_os_str().as_bytes(),
            to.as_os_str().as_bytes(),
        ] {
            request.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            request.extend_from_slice(part);
        }
        if !offers(&told) {
            return Err(refused(UNSUPPORTED));
        }
        self.say(EXTENDED, &request)?;
        let status = self.hear(STATUS)?;
        let code = status.get(4..8).and_then(|code| code.try_into().ok());
        match code.map(i32::from_be_bytes) {
            Some(0) => Ok(()),
            Some(code) => Err(refused(code)),
            None => Err(Fault::lost("an answer about files is cut short")),
        }
    }

    /// Also waits until the server has closed it: dropbear 2022.83 may never answer on a channel
    /// that is opened while another one ends.
    fn end(&mut self) -> Result<(), Fault> {
        let channel = &mut self.channel;
        self.link.drive(self.patience, || Ok(channel.close()?))?;
        self.link.drive(self.patience, || Ok(channel.wait_close()?))
    }

    fn say(&mut self, kind: u8, text: &[u8]) -> Result<(), Fault> {
        let length = u32::try_from(text.len() + 1).unwrap_or(u32::MAX);
        let packet = [&length.to_be_bytes()[..], &[kind], text].concat();
        let mut rest = &packet[..];
        while !rest.is_empty() {
            let channel = &mut self.channel;
            let sent = self
                .link
                .drive(self.patience, || Ok(channel.write(rest)?))?;
            rest = &rest[sent..];
        }
        Ok(())
    }

    /// The rest of the next packet, which must be of this type.
    fn hear(&mut self, kind: u8) -> Result<Vec<u8>, Fault> {
        let mut head = [0; 5];
        self.fill(&mut head)?;
        let [a, b, c, d, told] = head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if told != kind || !(1..=LONGEST).contains(&length) {
            return Err(Fault::lost("an answer about files is not understood"));
        }
        let mut text = vec![0; length - 1];
        self.fill(&mut text)?;
        Ok(text)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), Fault> {
        let mut filled = 0;
        while filled < buffer.len() {
            let channel = &mut self.channel;
            let rest = &mut buffer[filled..];
            match self.link.drive(self.patience, || Ok(channel.read(rest)?))? {
                0 => return Err(Fault::lost("the server closed the channel for files")),
                count => filled += count,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_is_found_among_others() {
        let told = |pairs: &[(&str, &str)]| {
            let mut told = VERSION.to_be_bytes().to_vec();
            for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
                told.extend((text.len() as u32).to_be_bytes());
                told.extend(text.bytes());
            }
            told
        };
        let ours = ("posix-rename@openssh.com", "1");
        assert!(offers(&told(&[("statvfs@openssh.com", "2"), ours])));
        assert!(!offers(&told(&[("posix-rename@openssh.com", "2")])));
        assert!(!offers(&told(&[
            ("x", "posix-rename@openssh.com"),
            ("1", "y")
        ])));
        let mut cut = told(&[ours]);
        cut.pop();
        assert!(!offers(&cut) && !offers(&[]));
    }
}
