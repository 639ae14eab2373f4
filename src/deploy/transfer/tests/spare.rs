//! Releases that recycle the folder of the one that was removed last.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use proptest::prelude::*;

use super::place::{Node, Place, Tree, build, file, read, refusal, tree};
use super::trees;

/// A server with release 2 live and release 1 as its recycled folder.
fn with_a_spare(first: &Tree, second: &Tree) -> Place {
    let place = Place::new();
    place.arrive(1, first);
    place.arrive(2, second);
    place.go_live(2, 1);
    assert_eq!(place.left(), [".2", ".spare", "2"]);
    place
}

fn pages() -> (Tree, Tree, Tree) {
    let first = tree(&[
        ("same", file("same")),
        ("old", file("1")),
        ("page", file("1")),
        ("kind/was a folder", file("1")),
        ("deep/down/gone", file("1")),
        ("l", Node::Link("same".into())),
    ]);
    let second = tree(&[("same", file("same")), ("page", file("2"))]);
    let third = tree(&[
        ("same", file("same")),
        ("page", file("2")),
        ("kind", file("a file")),
        ("new", file("3")),
        ("l/a folder", file("3")),
    ]);
    (first, second, third)
}

#[test]
fn what_is_the_same_stays_where_it_is_and_the_rest_is_copied_or_sent() {
    let (first, second, third) = pages();
    let place = with_a_spare(&first, &second);
    let inode = |path: &str| {
        let path = place.base().join("releases").join(path);
        fs::metadata(path).unwrap().ino()
    };
    let (spare, live) = (inode(".spare/1/same"), inode("2/page"));
    assert_eq!(place.arrive(3, &third), Some(3), "kind, new, l/a folder");
    assert_eq!(inode("3/same"), spare, "the very file");
    assert_ne!(inode("3/page"), live, "a copy");
    assert_eq!(place.left(), [".2", ".3", ".spare", "2", "3"]);
    let spare = place.base().join("releases/.spare");
    assert_eq!(fs::read_dir(spare).unwrap().count(), 0, "it is used up");
}

#[test]
fn what_the_application_left_in_the_spare_goes() {
    let (first, second, third) = pages();
    // In one of them the next release has a file at a path that was none before, so a file is written
    // anyway.
    for third in [third, first.clone()] {
        let place = with_a_spare(&first, &second);
        let spare = place.base().join("releases/.spare/1");
        fs::create_dir_all(spare.join("cache/a b")).unwrap();
        fs::write(spare.join("cache/a b/\t\nodd"), "the application's").unwrap();
        fs::write(spare.join("same.pyc"), "the application's").unwrap();
        symlink("/etc//ssl", spare.join("cache/etc")).unwrap();
        symlink("/etc", spare.join("deep/etc")).unwrap();
        place.arrive(3, &third).unwrap();
        assert!(fs::exists(place.release(3).join("same")).unwrap());
        assert!(fs::exists("/etc/ssl").unwrap());
    }
}

/// Also if no file of the recycled folder is removed: then only links in place of folders are looked
/// for.
#[test]
fn a_link_in_the_place_of_a_folder_leads_nothing_out_of_the_spare() {
    let (first, second, _) = pages();
    for (folder, second) in ["deep", "deep/down", "kind"]
        .into_iter()
        .flat_map(|folder| [(folder, &second), (folder, &first)])
    {
        let place = with_a_spare(&first, second);
        let elsewhere = place.path("elsewhere");
        fs::create_dir_all(elsewhere.join("down")).unwrap();
        for kept in ["gone", "down/gone", "was a folder"] {
            fs::write(elsewhere.join(kept), "not the release's").unwrap();
        }
        let spare = place.base().join("releases/.spare/1");
        fs::remove_dir_all(spare.join(folder)).unwrap();
        symlink(&elsewhere, spare.join(folder)).unwrap();
        build(&place.path("tree"), &first);
        let shipment = place.shipment(3);
        // The link is removed. Files behind it are missing if they should have stayed.
        match place.send(&shipment, true, |_| {}) {
            Err(output) => assert!(refusal(&output).is_of_a_spare(), "{output:?}"),
            Ok(_) => assert_eq!(read(&place.release(3)), read(&place.path("tree"))),
        }
        for kept in ["gone", "down/gone", "was a folder"] {
            let text = fs::read_to_string(elsewhere.join(kept)).unwrap();
            assert_eq!(text, "not the release's", "{folder}");
        }
    }
}

/// Files are taken over by the stat index only; if it is no longer true, by their checksum.
#[test]
fn a_file_that_was_changed_in_the_release_is_not_copied_into_the_spare() {
    let (first, second, third) = pages();
    let place = with_a_spare(&first, &second);
    let page = place.release(2).join("page");
    let times = fs::metadata(&page).unwrap().modified().unwrap();
    fs::write(&page, "3").unwrap();
    fs::File::options()
        .append(true)
        .open(&page)
        .unwrap()
        .set_modified(times)
        .unwrap();
    build(&place.path("tree"), &third);
    let shipment = place.shipment(3);
    let refused = refusal(&place.send(&shipment, true, |_| {}).unwrap_err());
    assert!(refused.is_of_a_spare(), "{refused}");
}

#[test]
fn a_spare_with_a_changed_file_is_given_up_and_the_next_try_copies() {
    let (first, second, third) = pages();
    type Change = fn(&std::path::Path);
    let changes: [Change; 2] = [
        |file| fs::write(file, "hers").unwrap(),
        |file| fs::remove_file(file).unwrap(),
    ];
    for change in changes {
        let place = with_a_spare(&first, &second);
        change(&place.base().join("releases/.spare/1/same"));
        build(&place.path("tree"), &third);
        let shipment = place.shipment(3);
        let refused = refusal(&place.send(&shipment, true, |_| {}).unwrap_err());
        assert!(refused.is_of_a_spare(), "{refused}");
        assert_eq!(place.left(), [".2", "2"]);
        assert_eq!(place.send(&shipment, true, |_| {}).unwrap(), Some(3));
        assert_eq!(read(&place.release(3)), read(&place.path("tree")));
    }
}

#[test]
fn a_spare_whose_owners_or_times_changed_is_checked_by_its_content() {
    let (first, second, third) = pages();
    let hers = |content: &str| {
        let place = with_a_spare(&first, &second);
        let file = place.base().join("releases/.spare/1/same");
        let time = fs::metadata(&file).unwrap().modified().unwrap();
        fs::write(&file, content).unwrap();
        let opened = fs::File::options().write(true).open(&file).unwrap();
        opened.set_modified(time).unwrap();
        build(&place.path("tree"), &third);
        (place.send(&place.shipment(3), true, |_| {}), place)
    };
    let (sent, place) = hers("same");
    assert_eq!(sent.unwrap(), Some(3));
    assert_eq!(read(&place.release(3)), read(&place.path("tree")));
    let refused = refusal(&hers("hers").0.unwrap_err());
    assert!(refused.is_of_a_spare(), "{refused}");
}

/// As with an application that runs as its own user. Root may write everywhere and uses the folder.
#[test]
fn a_spare_with_folders_of_somebody_else_is_done_without() {
    let (first, second, third) = pages();
    let place = with_a_spare(&first, &second);
    let theirs = place.base().join("releases/.spare/1/theirs");
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("cached"), "the application's").unwrap();
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o555)).unwrap();
    assert_eq!(place.arrive(3, &third), Some(3));
    let _ = fs::set_permissions(&theirs, fs::Permissions::from_mode(0o755));
}

#[test]
fn what_is_in_the_way_in_the_spare_has_it_given_up() {
    let (first, second, third) = pages();
    let place = with_a_spare(&first, &second);
    let gone = place.base().join("releases/.spare/1/old");
    fs::remove_file(&gone).unwrap();
    fs::create_dir(&gone).unwrap();
    fs::write(gone.join("cached"), "the application's").unwrap();
    build(&place.path("tree"), &third);
    let refused = refusal(&place.send(&place.shipment(3), true, |_| {}).unwrap_err());
    assert!(refused.is_of_a_spare(), "{refused}");
}

#[test]
fn a_record_that_was_cut_off_vouches_for_nothing() {
    let (first, second, _) = pages();
    for (file, is_spare) in [("seal", true), ("digest", true), ("seal", false)] {
        let place = with_a_spare(&first, &second);
        let (record, page) = match is_spare {
            true => (".spare/.1", ".spare/1/same"),
            false => (".2", "2/same"),
        };
        let releases = place.base().join("releases");
        fs::write(releases.join(record).join(file), "").unwrap();
        fs::write(releases.join(page), "hers").unwrap();
        build(&place.path("tree"), &first);
        let shipment = place.shipment(3);
        // No change to the recycled folder was planned; the refusal may be about it or about a delta.
        if let Err(output) = place.send(&shipment, true, |_| {}) {
            refusal(&output);
            if place.send(&shipment, true, |_| {}).is_err() {
                place.send(&shipment, false, |_| {}).unwrap();
            }
        }
        assert_eq!(
            read(&place.release(3)),
            read(&place.path("tree")),
            "{record}/{file}"
        );
    }
}

#[test]
fn a_copy_shares_no_file_with_a_release_that_linked_them() {
    let (first, second, third) = pages();
    let mut place = Place {
        hard_links: false,
        ..Place::new()
    };
    place.arrive(1, &first);
    place.hard_links = true;
    place.arrive(2, &second);
    place.go_live(2, 1);
    place.hard_links = false;
    build(&place.path("tree"), &third);
    let shipment = place.shipment(3);
    let refused = refusal(&place.send(&shipment, true, |_| {}).unwrap_err());
    assert!(refused.is_of_a_spare(), "{refused}");
    place.send(&shipment, true, |_| {}).unwrap();
    let same = fs::metadata(place.release(3).join("same")).unwrap();
    assert_eq!(same.nlink(), 1);
}

#[test]
fn a_release_that_is_sent_whole_needs_the_room_of_the_spare() {
    let (first, second, third) = pages();
    let place = with_a_spare(&first, &second);
    build(&place.path("tree"), &third);
    assert_eq!(
        place.send(&place.shipment(3), false, |_| {}).unwrap(),
        Some(5)
    );
    assert_eq!(place.left(), [".2", ".3", "2", "3"]);
}

#[test]
fn a_cut_pack_leaves_neither_a_release_nor_the_spare() {
    let (first, second, third) = pages();
    let place = with_a_spare(&first, &second);
    build(&place.path("tree"), &third);
    let cut = |sent: &mut Vec<u8>| sent.truncate(sent.len() - 100);
    let refused = refusal(&place.send(&place.shipment(3), true, cut).unwrap_err());
    assert!(refused.is_of_a_spare(), "{refused}");
    assert_eq!(place.left(), [".2", "2"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_release_can_be_made_of_any_other(
        one in trees(), other in trees(), third in trees(), hard_links in any::<bool>()
    ) {
        let place = Place { hard_links, ..Place::new() };
        for (id, wanted) in [(1, &one), (2, &other), (3, &third), (4, &one), (5, &other)] {
            place.arrive(id, wanted);
            place.go_live(id, 1);
            prop_assert_eq!(place.left().len(), if id == 1 { 2 } else { 3 });
        }
    }
}
