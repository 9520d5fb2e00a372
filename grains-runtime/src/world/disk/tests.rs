//! Files: locked, positional, and there after a sync.

use super::*;
use crate::world::testing::Folder;

#[test]
fn what_is_written_is_read_also_after_opening_again() {
    let folder = Folder::new();
    let path = folder.path().join("a/b/grains.db");
    let file = OsDisk.open(&path).unwrap();
    assert!(file.is_empty().unwrap());
    file.write_at(3, b"grain").unwrap();
    file.sync().unwrap();
    drop(file);
    let file = OsDisk.open(&path).unwrap();
    let mut out = [9; 8];
    file.read_at(0, &mut out).unwrap();
    assert_eq!(&out, b"\0\0\0grain");
    assert_eq!(file.len().unwrap(), 8);
}

#[test]
fn a_second_open_is_refused_until_the_first_is_dropped() {
    let folder = Folder::new();
    let path = folder.path().join("grains.db");
    let first = OsDisk.open(&path).unwrap();
    first.write_at(0, b"x").unwrap();
    let refused = OsDisk.open(&path).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::WouldBlock);
    assert!(refused.to_string().contains("grains.db: it is open already"), "{refused}");
    assert_eq!(first.len().unwrap(), 1, "a refused open changes nothing");
    drop(first);
    OsDisk.open(&path).unwrap();
}

#[test]
fn reading_past_the_end_is_an_error_that_names_the_file() {
    let folder = Folder::new();
    let file = OsDisk.open(&folder.path().join("short")).unwrap();
    file.write_at(0, b"abc").unwrap();
    let error = file.read_at(1, &mut [0; 3]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert!(error.to_string().contains("short"), "{error}");
}

#[test]
fn a_file_can_be_cut_and_extended_with_zeros() {
    let folder = Folder::new();
    let file = OsDisk.open(&folder.path().join("f")).unwrap();
    file.write_at(0, b"abcd").unwrap();
    file.set_len(2).unwrap();
    file.set_len(4).unwrap();
    file.sync().unwrap();
    let mut out = [9; 4];
    file.read_at(0, &mut out).unwrap();
    assert_eq!(&out, b"ab\0\0");
}

#[test]
fn after_a_failed_sync_no_later_one_succeeds() {
    let folder = Folder::new();
    let file = open(&folder.path().join("f")).unwrap();
    file.sync().unwrap();
    file.sync_with(|_| Err(io::Error::other("the disk is gone"))).unwrap_err();
    let later = file.sync().unwrap_err();
    assert!(later.to_string().contains("an earlier sync failed"), "{later}");
}

#[test]
fn a_path_that_cannot_be_a_file_is_named() {
    let folder = Folder::new();
    let error = OsDisk.open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("grains-"), "{error}");
}

#[test]
fn missing_folders_are_found_from_the_inside_out() {
    let folder = Folder::new();
    let inner = folder.path().join("a/b");
    assert_eq!(create_folders(&inner).unwrap(), [inner.clone(), folder.path().join("a")]);
    assert!(create_folders(&inner).unwrap().is_empty());
    assert_eq!(folder_of(Path::new("grains.db")), Path::new("."));
}
