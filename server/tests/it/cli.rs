//! The command line, as a process: help, mistakes, and the same work with and without a running server.

use crate::node::repository;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn homeroom(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_homeroom"));
    command.env_clear().env("HOMEROOM_DATA_DIR", data).env("HOMEROOM_LISTEN", "127.0.0.1:0");
    command
}

fn run(data: &Path, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = homeroom(data).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// A server process; killed when the test is over, however it went.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(data: &Path) -> Self {
        let mut process = homeroom(data).arg("serve").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").expect("the first line says where").to_owned();
        Self { process, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

#[test]
fn every_command_has_help_and_mistakes_have_an_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["serve", "migrate", "import", "invite", "sign-out", "backup", "doctor", "status"] {
        let (code, out, _) = run(folder.path(), &[command, "--help"]);
        assert_eq!(code, 0, "{command}");
        assert!(out.contains("--data-dir") && out.contains("Usage:"), "{command}: {out}");
    }
    assert_eq!(run(folder.path(), &["dance"]).0, 2);
    assert_eq!(run(folder.path(), &["invite"]).0, 2);
    let (code, _, error) =
        run(folder.path(), &["serve", "--listen", "x", "--workers", "many", "--redis-urls", "redis://:geheim@r"]);
    assert_eq!(code, 2);
    assert!(error.contains("3 mistakes") && !error.contains("geheim"), "{error}");
}

#[test]
fn the_same_work_with_and_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let school = repository().join("demo/school");
    let school = school.to_str().unwrap();
    assert_eq!(run(&data, &["migrate"]).0, 0);
    assert_eq!(run(&data, &["migrate"]).0, 0, "twice is once");
    assert_eq!(run(&data, &["status"]).0, 1, "no server runs");
    let (code, out, error) = run(&data, &["import", school, "--dry-run"]);
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("would be"), "{out}");
    assert_eq!(run(&data, &["import", school]).0, 0);

    let server = Server::start(&data);
    let (code, out, _) = run(&data, &["status"]);
    assert!(code == 0 && out.contains("people"), "{out}");
    let (code, out, error) = run(&data, &["import", school, "--json"]);
    assert_eq!(code, 0, "{error}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["people"]["added"], 0, "through the server, and nothing changed");
    let (_, out, error) = run(&data, &["invite", "ana.silva", "james.okafor", "--json"]);
    let invited: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{error}"));
    assert_eq!(invited.as_array().unwrap().len(), 2);
    assert!(invited[0]["link"].as_str().unwrap().starts_with(&format!("{}/i/", server.address)));
    let (code, _, error) = run(&data, &["invite", "nobody.here"]);
    assert!(code == 1 && error.contains("nobody.here"), "{error}");
    let (_, out, _) = run(&data, &["sign-out", "ana.silva"]);
    assert!(out.contains("0 sign-in(s)"), "{out}");

    let copy = folder.path().join("copy.db");
    let (code, _, error) = run(&data, &["backup", copy.to_str().unwrap()]);
    assert_eq!(code, 0, "{error}");
    let (code, _, error) = run(&data, &["backup", copy.to_str().unwrap()]);
    assert!(code == 1 && error.contains("is there already"), "{error}");
    let (code, _, error) = run(&data, &["serve"]);
    assert!(code == 1 && error.contains(&server.process.id().to_string()), "a second server is refused: {error}");

    // Killed, it leaves a socket behind that nobody answers; the next one starts all the same.
    drop(server);
    assert_eq!(run(&data, &["status"]).0, 1);
    let (code, out, error) = run(&data, &["invite", "--role", "staff", "--json"]);
    assert_eq!(code, 0, "{error}");
    assert!(serde_json::from_str::<serde_json::Value>(&out).unwrap().as_array().unwrap().len() >= 4);
    drop(Server::start(&data));

    // The copy is a whole database.
    let restored = folder.path().join("restored");
    std::fs::create_dir(&restored).unwrap();
    std::fs::copy(&copy, restored.join("homeroom.db")).unwrap();
    let (_, out, _) = run(&restored, &["import", school, "--json"]);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["people"]["added"], 0);
}

#[test]
fn where_no_homeroom_is_nothing_is_made_but_by_what_begins_one() {
    let folder = tempfile::tempdir().unwrap();
    let (data, copy) = (folder.path().join("mistyped"), folder.path().join("copy.db"));
    for arguments in [&["backup", copy.to_str().unwrap()][..], &["invite", "ana.silva"], &["sign-out", "ana.silva"]] {
        let (code, _, error) = run(&data, arguments);
        assert!(code == 2 && error.contains("there is no Homeroom in"), "{arguments:?}: {error}");
    }
    assert_eq!(run(&data, &["status"]).0, 1);
    assert!(!data.exists() && !copy.exists());
}

/// Others on the machine read neither the database nor a copy of it.
#[test]
fn what_is_written_is_its_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (data, copy) = (folder.path().join("data"), folder.path().join("copy.db"));
    assert_eq!(run(&data, &["migrate"]).0, 0);
    assert_eq!(run(&data, &["backup", copy.to_str().unwrap()]).0, 0);
    for (path, mode) in [(data.clone(), 0o700), (data.join("homeroom.db"), 0o600), (copy, 0o600)] {
        let found = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{}: {found:o}", path.display());
    }
}

#[test]
fn bad_rows_are_listed_and_have_an_exit_code_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let roster = folder.path().join("roster");
    std::fs::create_dir(&roster).unwrap();
    std::fs::write(roster.join("manifest.csv"), "propertyName,value\noneroster.version,1.1\nfile.orgs,bulk\n").unwrap();
    std::fs::write(roster.join("orgs.csv"), "sourcedId,name,type\ns1,School,castle\n").unwrap();
    let (code, _, error) = run(&folder.path().join("data"), &["import", roster.to_str().unwrap()]);
    assert_eq!(code, 3);
    assert!(error.contains("orgs.csv, line 2, type \"castle\"") && error.contains("--skip-bad-rows"), "{error}");
}

#[test]
fn a_server_stops_on_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path());
    let pid = server.process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(server.process.wait().unwrap().success());
    assert!(!folder.path().join("control.sock").exists());
}

#[test]
fn a_database_that_does_not_answer_is_named_without_its_password_and_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    // A port that nobody listens on: it was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://somebody:geheim@127.0.0.1:{port}/school");
    let mut process = homeroom(folder.path())
        .args(["serve", "--database-url", &url])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut said = String::new();
    // It says so more than once: it goes on trying.
    while said.matches("does not answer").count() < 2 {
        said += &lines.next().expect("it goes on trying").unwrap();
    }
    assert!(said.contains(&format!("127.0.0.1:{port}/school")), "{said}");
    assert!(!said.contains("geheim") && !said.contains("somebody"), "{said}");
    assert!(process.try_wait().unwrap().is_none());
    assert!(Command::new("kill").arg(process.id().to_string()).status().unwrap().success());
    assert!(process.wait().unwrap().success(), "and leaves when it is asked to");
}
