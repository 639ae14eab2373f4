//! Paths of folders on servers.

/// The longest path, in characters.
pub const LONGEST: usize = 512;

/// System folders that cannot hold a project at any depth.
const SYSTEM_TREES: [&str; 10] = [
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/sbin", "/sys",
];
/// System folders that cannot be a project's folder, although their subfolders can.
const SYSTEM_FOLDERS: [&str; 13] = [
    "/",
    "/home",
    "/media",
    "/mnt",
    "/opt",
    "/root",
    "/run",
    "/srv",
    "/tmp",
    "/usr",
    "/usr/local",
    "/var",
    "/var/www",
];

/// `text` as a normal path: absolute, without `.`, `..`, empty parts or a trailing slash. `None` if
/// it has other forms or a character that shells or people could misread.
pub fn normal(text: &str) -> Option<&str> {
    let sound = |c: char| !c.is_control() && !matches!(c, '$' | '`' | '\\');
    if text == "/" {
        return Some(text);
    }
    let text = text.strip_suffix('/').unwrap_or(text);
    let mut parts = text.strip_prefix('/')?.split('/');
    let plain = parts.all(|part| !part.is_empty() && part != "." && part != "..");
    (plain && text.chars().all(sound)).then_some(text)
}

/// True if `path`, in [`normal`] form, belongs to the system.
pub fn is_system(path: &str) -> bool {
    let inside = |tree: &str| {
        path.strip_prefix(tree)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    SYSTEM_FOLDERS.contains(&path) || SYSTEM_TREES.iter().any(|tree| inside(tree))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_have_one_spelling() {
        for (text, expected) in [
            ("/", Some("/")),
            ("/srv/app", Some("/srv/app")),
            ("/srv/app/", Some("/srv/app")),
            ("/srv/a b/应用", Some("/srv/a b/应用")),
            ("", None),
            ("srv/app", None),
            ("../x", None),
            ("..", None),
            ("/srv/../etc", None),
            ("/srv/./app", None),
            ("/srv//app", None),
            ("//", None),
            ("/a\0b", None),
            ("/a\nb", None),
            ("/$(id)", None),
            ("/`id`", None),
        ] {
            assert_eq!(normal(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_systems_folders_are_known() {
        for path in [
            "/",
            "/etc",
            "/etc/nginx",
            "/usr",
            "/var",
            "/home",
            "/proc/1",
        ] {
            assert!(is_system(path), "{path}");
        }
        for path in [
            "/srv/app",
            "/home/ann/app",
            "/var/www/app",
            "/opt/x",
            "/etcetera",
            "/libs",
        ] {
            assert!(!is_system(path), "{path}");
        }
    }
}
