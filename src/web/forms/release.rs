//! Releases: validation of a request.

use super::{Check, FieldErrors};
use crate::git::check_revision;
use crate::store::ProjectId;
use crate::web::input::Fields;

/// The fields, in form order.
pub const FIELDS: [&str; 3] = ["project_id", "ref", "commit"];

/// The longest name of a branch or tag, in characters, the limit for git names here.
const LONGEST_REF: usize = 1023;

/// A requested release.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The project.
    pub project: ProjectId,
    /// The branch, tag or commit.
    pub revision: String,
    /// The field that contained the revision.
    pub field: &'static str,
}

/// Reads the request: a branch or tag, or a commit, but not both, which would be ambiguous.
///
/// # Errors
/// The errors by field.
pub fn check(fields: &Fields) -> Result<Wanted, FieldErrors> {
    let mut check = Check::new(fields);
    let project = check.id("project_id", None);
    if project.is_none() {
        check.refuse("project_id", "required");
    }
    let name = reference(&mut check);
    let commit = check.line("commit", None, LONGEST_REF);
    if !name.is_empty() && check_revision(&name).is_err() {
        check.refuse("ref", "invalid_revision");
    }
    if !commit.is_empty() && !is_commit(&commit) {
        check.refuse("commit", "invalid_revision");
    }
    match (name.is_empty(), commit.is_empty()) {
        (true, true) => check.refuse("ref", "required"),
        (false, false) => check.refuse("commit", "ref_and_commit"),
        _ => {}
    }
    let (revision, field) = if commit.is_empty() {
        (name, "ref")
    } else {
        (commit, "commit")
    };
    let wanted = Wanted {
        project: project.unwrap_or(ProjectId(0)),
        revision,
        field,
    };
    check.finish(&FIELDS, wanted)
}

/// The name of a branch or tag, which may contain Unicode control characters that git allows.
fn reference(check: &mut Check<'_>) -> String {
    let name = check.given("ref").unwrap_or_default().trim_matches(' ');
    if name.chars().any(|letter| letter.is_ascii_control()) {
        check.refuse("ref", "invalid_characters");
    }
    if name.chars().count() > LONGEST_REF {
        check.refuse_with("ref", "too_long", &[("max", &LONGEST_REF.to_string())]);
    }
    name.to_owned()
}

/// True for a commit id, in full or abbreviated to at least 4 digits.
fn is_commit(text: &str) -> bool {
    (4..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(json: &str) -> Result<Wanted, FieldErrors> {
        check(&Fields::from_json("application/json", json.as_bytes()).unwrap())
    }

    #[test]
    fn revisions_are_names_or_ids() {
        let asked = wanted(r#"{"project_id":"1","ref":"","commit":"abcd123"}"#).unwrap();
        assert_eq!(
            (asked.revision.as_str(), asked.field),
            ("abcd123", "commit")
        );
        let long = format!(r#"{{"project_id":1,"ref":"{}"}}"#, "x".repeat(1100));
        for (json, field, code) in [
            ("{}", "project_id", "required"),
            (r#"{"project_id":1}"#, "ref", "required"),
            (
                r#"{"project_id":1,"ref":"main","commit":"abcd123"}"#,
                "commit",
                "ref_and_commit",
            ),
            (
                r#"{"project_id":"x","ref":"main"}"#,
                "project_id",
                "unknown_choice",
            ),
            (
                r#"{"project_id":1,"ref":"a\nb"}"#,
                "ref",
                "invalid_characters",
            ),
            (r#"{"project_id":1,"ref":"-b"}"#, "ref", "invalid_revision"),
            (
                r#"{"project_id":1,"commit":"main"}"#,
                "commit",
                "invalid_revision",
            ),
            (long.as_str(), "ref", "too_long"),
        ] {
            let errors = wanted(json).unwrap_err();
            let first = errors.first().unwrap();
            assert_eq!(
                (first.field.as_str(), first.code),
                (field, code),
                "{json:.60}"
            );
        }
    }
}
