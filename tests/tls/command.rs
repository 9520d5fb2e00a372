//! The command, as people use it.

use std::process::{Command, Output};

use grains::ClusterConfig;

use crate::{TallyRef, describe, folder::Folder};

fn grains(folder: &Folder, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_grains"));
    command.current_dir(folder.path()).args(line.split(' ')).output().unwrap()
}

#[track_caller]
fn works(folder: &Folder, line: &str) -> String {
    let output = grains(folder, line);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn fails(folder: &Folder, line: &str, code: i32) -> String {
    let output = grains(folder, line);
    assert_eq!(output.status.code(), Some(code), "{line}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

/// What docs/TLS.md tells people to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_make_a_cluster_and_change_its_root() {
    let folder = Folder::new();
    assert!(works(&folder, "ca init ca --cluster shop").contains("grains ca issue ca --node NAME"));
    works(&folder, "ca issue ca --node a --out a");
    works(&folder, "ca issue ca --client web --out web --days 7");
    let start = || describe("a", ClusterConfig::new("shop").tls_folder(folder.path().join("a"))).start();
    let node = start().await.unwrap();
    assert_eq!(node.get::<TallyRef>("x").add(1).await.unwrap().0, 1);
    node.stop().await;
    assert!(works(&folder, "ca rotate ca").contains("grains ca rotate ca --finish"));
    works(&folder, "ca issue ca --node a --out a --replace");
    works(&folder, "ca rotate ca --finish");
    std::fs::copy(folder.path().join("ca/roots.pem"), folder.path().join("a/roots.pem")).unwrap();
    start().await.unwrap().stop().await;
}

#[test]
fn mistakes_say_what_to_do_and_change_nothing() {
    let folder = Folder::new();
    assert!(fails(&folder, "ca issue ca --node a --out a", 1).contains("grains ca init"));
    assert!(!folder.path().join("ca").exists());
    works(&folder, "ca init ca --cluster shop");
    works(&folder, "ca issue ca --node a --out a");
    let read = || std::fs::read_to_string(folder.path().join("a/key.pem")).unwrap();
    let key = read();
    assert!(fails(&folder, "ca issue ca --node a --out a", 1).contains("--replace"));
    assert_eq!(read(), key);
    assert!(fails(&folder, "ca init ca --cluster shop", 1).contains("has an authority already"));
    assert!(fails(&folder, "ca init other --cluster sh/op", 1).contains("sh/op"));
    assert!(fails(&folder, "ca rotate ca --finish", 1).contains("one root"));
    assert!(fails(&folder, "ca isue ca --node a --out b", 2).contains("ca isue"));
    assert!(works(&folder, "--help").contains("grains ca init FOLDER --cluster NAME"));
}
