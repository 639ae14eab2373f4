//! The demo's sample repository: a small shop with a history, branches and tags.

use std::path::Path;

use git2::build::TreeUpdateBuilder;
use git2::{FileMode, Oid, Repository, Signature, Time};

/// The branch that the demo releases.
pub(super) const BRANCH: &str = "main";

/// The first commit's time, 2026-10-01 09:00 UTC, in seconds.
const FIRST: i64 = 1_790_845_200;
/// The time between two commits, in seconds: some working hours.
const PAUSE: i64 = 4 * 3600 + 1234;

const AUTHORS: [(&str, &str); 3] = [
    ("Ann Liu", "ann@shop.example"),
    ("王小明", "xiaoming@shop.example"),
    ("Jo Baker", "jo@shop.example"),
];

/// One commit: its message, the file that it writes and the text of the file; `>` before the branch if
/// it is not the main one, `#` before its tag.
struct Change {
    message: &'static str,
    path: &'static str,
    text: &'static str,
    marks: &'static [&'static str],
}

const fn change(
    message: &'static str,
    path: &'static str,
    text: &'static str,
    marks: &'static [&'static str],
) -> Change {
    Change {
        message,
        path,
        text,
        marks,
    }
}

const BUILD: &str = "#!/bin/sh
# Puts the pages together in dist/.
set -e
mkdir -p dist
for page in pages/*.html; do
  echo \"building $page\"
  cat parts/head.html \"$page\" parts/foot.html > \"dist/$(basename \"$page\")\"
  sleep 0.4
done
echo \"$LONGSHORE_COMMIT\" > dist/version.txt
echo 'built'
";

const TEST: &str = "#!/bin/sh
# Every page must have a heading.
set -e
for page in pages/*.html; do
  grep -q '<h1>' \"$page\" && echo \"ok $page\"
  sleep 0.2
done
";

const RESTART: &str = "#!/bin/sh
# A shop of static pages has nothing to restart; this one takes its time all the same.
echo 'stopping'
sleep 1
echo \"starting release $LONGSHORE_RELEASE\"
sleep 1
echo 'started'
";

const CHANGES: &[Change] = &[
    change(
        "Start the shop",
        "README.md",
        "# Shop\n\nA sample project.\n",
        &[],
    ),
    change(
        "Add the front page",
        "pages/index.html",
        "<h1>Our shop</h1>\n<p>Welcome to the shop.</p>\n",
        &[],
    ),
    change(
        "Add the head of every page",
        "parts/head.html",
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>shop</title>\n",
        &[],
    ),
    change(
        "添加页脚",
        "parts/foot.html",
        "<footer>shop, since 2026</footer>\n",
        &[],
    ),
    change("Build the pages with a script", "build.sh", BUILD, &[]),
    change(
        "Add a page about us",
        "pages/about.html",
        "<h1>About us</h1>\n<p>We sell boats.</p>\n",
        &["#v1.0"],
    ),
    change("Check that every page has a heading", "test.sh", TEST, &[]),
    change(
        "添加商品列表",
        "pages/goods.html",
        "<h1>商品</h1>\n<ul><li>Rowing boat</li></ul>\n",
        &[],
    ),
    change("Restart after a release", "restart.sh", RESTART, &[]),
    change(
        "Sell sails too",
        "pages/goods.html",
        "<h1>商品</h1>\n<ul><li>Rowing boat</li><li>Sail</li></ul>\n",
        &["#v1.1"],
    ),
    change(
        "Try a shopping cart",
        "pages/cart.html",
        "<h1>Cart</h1>\n<p>Empty.</p>\n",
        &[">feature/cart"],
    ),
    change(
        "Count what is in the cart",
        "pages/cart.html",
        "<h1>Cart</h1>\n<p>0 things.</p>\n",
        &[">feature/cart"],
    ),
    change(
        "Say where we are",
        "pages/about.html",
        "<h1>About us</h1>\n<p>We sell boats, at the harbour.</p>\n",
        &[],
    ),
    change(
        "修复首页标题",
        "pages/index.html",
        "<h1>The harbour shop</h1>\n<p>Welcome to the shop.</p>\n",
        &[],
    ),
    change(
        "Add opening hours",
        "pages/hours.html",
        "<h1>Opening hours</h1>\n<p>9 to 17.</p>\n",
        &["#v1.2"],
    ),
    change(
        "Try longer opening hours",
        "pages/hours.html",
        "<h1>Opening hours</h1>\n<p>8 to 20.</p>\n",
        &[">dev"],
    ),
    change(
        "Open on Saturdays",
        "pages/hours.html",
        "<h1>Opening hours</h1>\n<p>8 to 20, Saturdays too.</p>\n",
        &[">dev"],
    ),
    change(
        "Write down how to build",
        "README.md",
        "# Shop\n\nA sample project. `sh build.sh` puts the pages into `dist/`.\n",
        &[],
    ),
    change(
        "更新关于我们",
        "pages/about.html",
        "<h1>About us</h1>\n<p>We sell boats, at the harbour. 欢迎光临。</p>\n",
        &[],
    ),
    change(
        "Describe the pages for search engines",
        "parts/head.html",
        "<!doctype html>\n<meta charset=\"utf-8\">\n<meta name=\"description\" content=\"Boats and sails\">\n<title>shop</title>\n",
        &[],
    ),
    change(
        "Sell ropes",
        "pages/goods.html",
        "<h1>商品</h1>\n<ul><li>Rowing boat</li><li>Sail</li><li>Rope</li></ul>\n",
        &["#v2.0"],
    ),
    change(
        "Thank our customers",
        "pages/index.html",
        "<h1>The harbour shop</h1>\n<p>Welcome to the shop. Thank you for 1,000 orders!</p>\n",
        &[],
    ),
];

/// Creates the bare repository at `path`, completely or not at all.
pub(super) fn make(path: &Path) -> Result<(), git2::Error> {
    let part = path.with_extension("part");
    let _ = std::fs::remove_dir_all(&part);
    let repository = Repository::init_bare(&part)?;
    for (number, change) in (0..).zip(CHANGES) {
        commit(&repository, change, number)?;
    }
    repository.set_head(&format!("refs/heads/{BRANCH}"))?;
    std::fs::rename(&part, path).map_err(|error| git2::Error::from_str(&error.to_string()))
}

/// The commit at the head of `branch`; a new branch starts from the main one.
fn tip<'r>(repository: &'r Repository, branch: &str) -> Option<git2::Commit<'r>> {
    [branch, BRANCH].iter().find_map(|name| {
        repository
            .find_reference(&format!("refs/heads/{name}"))
            .and_then(|reference| reference.peel_to_commit())
            .ok()
    })
}

fn commit(repository: &Repository, change: &Change, number: i64) -> Result<(), git2::Error> {
    let mark = |sign| change.marks.iter().find_map(|mark| mark.strip_prefix(sign));
    let branch = mark('>').unwrap_or(BRANCH);
    let parent = tip(repository, branch);
    let tree = write_tree(repository, change, parent.as_ref())?;
    let (name, address) = AUTHORS[usize::try_from(number).unwrap_or(0) % AUTHORS.len()];
    let author = Signature::new(name, address, &Time::new(FIRST + number * PAUSE, 480))?;
    let id = repository.commit(
        None,
        &author,
        &author,
        change.message,
        &repository.find_tree(tree)?,
        &parent.iter().collect::<Vec<_>>(),
    )?;
    repository.reference(&format!("refs/heads/{branch}"), id, true, change.message)?;
    if let Some(tag) = mark('#') {
        let object = repository.find_object(id, None)?;
        repository.tag(tag, &object, &author, change.message, false)?;
    }
    Ok(())
}

fn write_tree(
    repository: &Repository,
    change: &Change,
    parent: Option<&git2::Commit<'_>>,
) -> Result<Oid, git2::Error> {
    let base = match parent {
        Some(parent) => parent.tree()?,
        None => repository.find_tree(repository.treebuilder(None)?.write()?)?,
    };
    let blob = repository.blob(change.text.as_bytes())?;
    let mode = if change.text.starts_with("#!") {
        FileMode::BlobExecutable
    } else {
        FileMode::Blob
    };
    TreeUpdateBuilder::new()
        .upsert(change.path, blob, mode)
        .create_updated(repository, &base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_has_some_twenty_commits_branches_and_tags() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.git");
        make(&path).unwrap();
        let repository = Repository::open_bare(&path).unwrap();
        let mut walk = repository.revwalk().unwrap();
        walk.push_glob("refs/heads/*").unwrap();
        assert_eq!(walk.count(), CHANGES.len());
        assert!((18..=25).contains(&CHANGES.len()));
        assert_eq!(repository.branches(None).unwrap().count(), 3);
        assert_eq!(repository.tag_names(None).unwrap().len(), 4);
        let main = repository.find_reference("refs/heads/main").unwrap();
        let tree = main.peel_to_tree().unwrap();
        for file in ["build.sh", "test.sh", "restart.sh", "pages/goods.html"] {
            assert!(tree.get_path(Path::new(file)).is_ok(), "{file}");
        }
    }
}
