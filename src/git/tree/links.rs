//! The targets of symlinks. Pure.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// The most symlinks followed for one path, as in Linux; a longer chain leads nowhere.
const MAX_LINKS: usize = 40;
/// The most path components followed for all symlinks of a tree together. An honest tree needs a
/// few for each; a hostile one could take hours.
const MAX_STEPS: usize = 1_000_000;

/// The first symlink (from its path to its target) of a tree, in the order of names, that is
/// refused, with the reason: following it leaves the tree, or takes too long.
pub fn refused_link<'a>(links: &HashMap<&'a Path, &Path>) -> Option<(&'a Path, &'static str)> {
    let mut steps = 0;
    let mut names: Vec<&Path> = links.keys().copied().collect();
    names.sort_unstable();
    for link in names {
        if leaves(link, links, &mut steps) {
            return Some((link, "a symlink that leaves the work tree"));
        }
        if steps > MAX_STEPS {
            return Some((link, "symlinks lead through too many others"));
        }
    }
    None
}

/// True if following `link` ever leaves the tree; symlinks on the way are followed as by the
/// system. The text alone is not enough: in `dir/up/../x`, `dir/up` may be a link to `..`.
fn leaves(link: &Path, links: &HashMap<&Path, &Path>, steps: &mut usize) -> bool {
    let mut here = link.parent().unwrap_or(Path::new("")).to_owned();
    let mut ahead: Vec<&[u8]> = Vec::new();
    let Some(target) = links.get(link) else {
        return false;
    };
    if !push_parts(target, &mut ahead) {
        return true;
    }
    let mut followed = 0;
    while let Some(part) = ahead.pop() {
        *steps += 1;
        match part {
            b"" | b"." => {}
            b".." => {
                if !here.pop() {
                    return true;
                }
            }
            name => {
                here.push(OsStr::from_bytes(name));
                if let Some(target) = links.get(here.as_path()) {
                    followed += 1;
                    if followed > MAX_LINKS {
                        // The system gives up here too: a loop leads nowhere.
                        return false;
                    }
                    here.pop();
                    if !push_parts(target, &mut ahead) {
                        return true;
                    }
                }
            }
        }
    }
    false
}

/// Pushes the target's components on the stack, the first on top. False for an absolute target.
fn push_parts<'a>(target: &'a Path, ahead: &mut Vec<&'a [u8]>) -> bool {
    let bytes = target.as_os_str().as_bytes();
    ahead.extend(bytes.split(|byte| *byte == b'/').rev());
    !bytes.starts_with(b"/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaving(links: &[(&str, &str)]) -> Vec<String> {
        let map = links
            .iter()
            .map(|(link, target)| (Path::new(*link), Path::new(*target)))
            .collect();
        let mut out: Vec<String> = links
            .iter()
            .filter(|(link, _)| leaves(Path::new(link), &map, &mut 0))
            .map(|(link, _)| (*link).to_owned())
            .collect();
        out.sort();
        out
    }

    #[test]
    fn symlinks_are_followed_as_the_system_does() {
        assert!(
            leaving(&[
                ("a", "b"),
                ("d/a", "../b"),
                ("d/e/a", "../../x/./y"),
                ("self", "self")
            ])
            .is_empty()
        );
        assert!(leaving(&[("d/root", ".."), ("a", "d/root/b"), ("trail", "d/")]).is_empty());
        assert_eq!(
            leaving(&[("a", "/etc/passwd"), ("b", ".."), ("d/c", "../../x")]),
            ["a", "b", "d/c"]
        );
        assert_eq!(leaving(&[("a", "x/../../y")]), ["a"]);
        // Lexically inside, on disk outside.
        assert_eq!(leaving(&[("d/up", ".."), ("x", "d/up/../secret")]), ["x"]);
        assert_eq!(leaving(&[("a", "b/c"), ("b", "/etc")]), ["a", "b"]);
    }
}
