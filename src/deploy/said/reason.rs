//! Reasons that `git` and `ssh` give in the platform's own English words, for rendering from the
//! catalogues. Other reasons come from the system or the other side and stay as they are.

use super::{Arg, Said};

/// A reason and the end of its key `reason.…`. `{detail}` stands for somebody else's words.
const REASONS: [(&str, &str); 57] = [
    // Logins at git hosts.
    (
        "a password or token is never sent over plain http; use https",
        "plain_http",
    ),
    (
        "git:// has no login; use https or ssh for a private repository",
        "git_scheme",
    ),
    ("an ssh key cannot be used over https", "key_over_https"),
    (
        "a token cannot be used over ssh; use an ssh key",
        "token_over_ssh",
    ),
    ("the credential was not accepted", "not_accepted"),
    ("it asks for a login, and none was given", "login_missing"),
    ("it does not accept this kind of credential", "wrong_kind"),
    (
        "the key cannot be read: it is damaged, of an unsupported kind, or its passphrase is wrong ({detail})",
        "key_unreadable",
    ),
    // Git hosts.
    ("it offered no ssh key", "no_ssh_key"),
    (
        "the connection could not be started",
        "connection_not_started",
    ),
    ("only ssh addresses have a host key", "no_host_key"),
    (
        "the git host sent something that cannot be read",
        "git_unreadable",
    ),
    (
        "a url.*.insteadOf setting of this system's git configuration rewrites it",
        "instead_of",
    ),
    // Mirrors and commits.
    ("an object could not be read", "object"),
    ("a pack and its index do not fit", "pack"),
    ("folders lie too deep in each other", "depth"),
    ("a malformed symlink", "symlink"),
    ("a symlink that leaves the work tree", "symlink_leaves"),
    ("symlinks lead through too many others", "symlinks_too_many"),
    ("submodules lie too deep in each other", "submodule_depth"),
    ("there are too many submodules", "submodule_count"),
    ("no address of it is in .gitmodules", "submodule_address"),
    ("of an unknown kind", "unknown_kind"),
    ("not the name of a file", "no_name"),
    (
        "a name with a slash or a zero byte in it",
        "name_characters",
    ),
    ("a name longer than 255 bytes", "name_length"),
    ("a name that git keeps for itself", "name_of_git"),
    ("it is there twice, perhaps in another spelling", "twice"),
    // Servers.
    ("it has no address", "no_address"),
    ("the server showed no host key", "host_key_missing"),
    ("password", "password"),
    ("key", "key"),
    ("key of the SSH agent", "agent"),
    ("a password", "a_password"),
    ("a key", "a_key"),
    ("another proof", "another_proof"),
    ("SSH_AUTH_SOCK is not set", "no_agent"),
    ("it holds no key", "agent_empty"),
    ("it did not answer in time", "agent_late"),
    ("a command", "command"),
    ("another session", "session"),
    (
        "it is in PuTTY's format; convert it with `puttygen KEY.ppk -O private-openssh`",
        "putty",
    ),
    (
        "this is the public half; the private key is needed",
        "public_half",
    ),
    ("it has no `-----BEGIN … PRIVATE KEY-----` line", "no_begin"),
    ("its end is missing", "no_end"),
    ("it is damaged", "damaged"),
    ("DSA keys are no longer supported", "dsa"),
    ("it is longer than any key", "key_length"),
    ("its passphrase takes too long to check", "key_rounds"),
    ("keys of the kind {detail} cannot be used", "key_kind"),
    // Files on servers.
    ("its folder does not exist", "no_folder"),
    ("it is a folder", "is_folder"),
    ("it is not a regular file", "not_a_file"),
    ("no such file or folder", "no_such_file"),
    ("permission denied", "permission"),
    ("the server refused ({detail})", "refused"),
    ("it is a {detail}", "is_a"),
];

/// The text of a reason, from the catalogues if it is one of [`REASONS`].
pub(super) fn reason(text: &str) -> Arg {
    for (ours, key) in REASONS {
        let key = format!("reason.{key}");
        if ours == text {
            return Arg::Said(Said::new(&key, text));
        }
        if let Some((before, after)) = ours.split_once("{detail}")
            && let Some(rest) = text.strip_prefix(before)
            && let Some(detail) = rest.strip_suffix(after)
        {
            return Arg::Said(Said::new(&key, text).arg("detail", detail));
        }
    }
    Arg::Text(text.to_owned())
}

/// All reasons of the platform.
#[cfg(test)]
pub(super) fn texts() -> impl Iterator<Item = &'static str> {
    REASONS.into_iter().map(|(ours, _)| ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// The text of every source file of git and ssh.
    fn sources() -> String {
        let mut text = String::new();
        for folder in ["src/git", "src/git/tree", "src/ssh"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            for file in std::fs::read_dir(folder).unwrap() {
                let path = file.unwrap().path();
                if path.extension().is_some_and(|end| end == "rs") {
                    text.push_str(&std::fs::read_to_string(path).unwrap());
                }
            }
        }
        text
    }

    #[test]
    fn every_reason_is_one_that_is_given() {
        let sources = sources();
        for (ours, key) in REASONS {
            let is_given = ["{reason}", "{label}", "{}"].iter().any(|hole| {
                let literal = format!("\"{}\"", ours.replace("{detail}", hole));
                sources.contains(&literal)
            });
            assert!(is_given, "{key}: {ours}");
        }
    }

    #[test]
    fn words_of_others_stay_and_ours_are_said() {
        let theirs = "Connection refused (os error 111)";
        assert_eq!(reason(theirs), Arg::Text(theirs.to_owned()));
        let ours = "the key cannot be read: it is damaged, of an unsupported kind, \
                    or its passphrase is wrong (bad magic)";
        let said = Said::new("reason.key_unreadable", ours).arg("detail", "bad magic");
        assert_eq!(reason(ours), Arg::Said(said));
    }
}
