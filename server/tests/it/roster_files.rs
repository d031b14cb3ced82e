//! Rosters as strangers send them: zips that are not what they seem, files that end nowhere; and imports while people talk.
//!
//! Owns: making such files. Refuses to know: what a good roster changes (see `roster`).

use crate::node::{Ground, Node, log, post, repository};
use homeroom::log::Log;
use homeroom::roster::{self, Changes, ImportError, ImportOptions, Report};
use homeroom_protocol::Address;
use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use zip::write::SimpleFileOptions;

const MANIFEST: &str = "propertyName,value\noneroster.version,1.1\nfile.orgs,bulk\n";
const ORGS: &str = "sourcedId,name,type\nO-1,Hill,school\n";

async fn import(log: &Log, path: &Path) -> Result<Report, ImportError> {
    roster::import(log.db(), log, path, &ImportOptions::default(), &|_| {}).await
}

fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Why a zip is refused; nothing of it is applied.
async fn refusal(bytes: &[u8]) -> String {
    let ground = Ground::sqlite();
    let log = log(&ground).await;
    let file = ground.folder.path().join("roster.zip");
    fs::write(&file, bytes).unwrap();
    let refused = import(&log, &file).await.unwrap_err();
    let schools = homeroom::fetch_all!(log.db().reads(), (i64,), "SELECT COUNT(*) FROM school").unwrap();
    assert_eq!(schools[0].0, 0);
    refused.to_string()
}

#[tokio::test]
async fn a_zip_is_taken_by_the_last_parts_of_its_names_and_leads_nowhere() {
    let ground = Ground::sqlite();
    let log = log(&ground).await;
    let inside = ground.folder.path().join("in");
    fs::create_dir(&inside).unwrap();
    let file = inside.join("roster.zip");
    let files: [(&str, &[u8]); 4] = [
        ("../../manifest.csv", MANIFEST.as_bytes()),
        ("export 2026\\ORGS.CSV", ORGS.as_bytes()),
        ("/etc/cron.d/evil", b"* * * * * root true"),
        ("../../evil.csv", b"x"),
    ];
    fs::write(&file, zip(&files)).unwrap();
    assert_eq!(import(&log, &file).await.unwrap().orgs.added, 1);
    assert!(!ground.folder.path().join("manifest.csv").exists() && !inside.join("evil.csv").exists());
}

/// The same file as another system writes it: columns the other way round, one that nobody knows, all in quotes, CR LF, a byte order mark.
fn otherwise(file: &Path) -> Vec<u8> {
    let mut reader = csv::Reader::from_path(file).unwrap();
    let style = csv::QuoteStyle::Always;
    let mut writer = csv::WriterBuilder::new()
        .quote_style(style)
        .terminator(csv::Terminator::CRLF)
        .from_writer(vec![0xEF, 0xBB, 0xBF]);
    let turned = |record: &csv::StringRecord, more: &str| {
        let mut values: Vec<String> = record.iter().rev().map(str::to_owned).collect();
        values.insert(1, more.to_owned());
        values
    };
    writer.write_record(turned(reader.headers().unwrap(), "metadata.notes, of all kinds")).unwrap();
    for record in reader.records() {
        writer.write_record(turned(&record.unwrap(), "he said \"yes\",\nand left")).unwrap();
    }
    writer.into_inner().unwrap()
}

#[tokio::test]
async fn a_school_is_the_same_however_its_files_are_written() {
    let ground = Ground::sqlite();
    let log = log(&ground).await;
    for name in ["server/tests/fixtures/oneroster-1.1-min", "server/tests/fixtures/oneroster-1.2-min", "demo/school"] {
        let plain = repository().join(name);
        let options = ImportOptions { allow_mass_removal: true, ..ImportOptions::default() };
        roster::import(log.db(), &log, &plain, &options, &|_| {}).await.unwrap();
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        for entry in fs::read_dir(&plain).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_str().unwrap().to_owned();
            // What a Mac puts beside each file of a zip.
            files.push((format!("__MACOSX/export 2026/._{file}"), b"\0\x05\x16\x07".to_vec()));
            let turned = if file == "manifest.csv" { fs::read(&path).unwrap() } else { otherwise(&path) };
            files.push((format!("export 2026/{file}"), turned));
        }
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        let packed = ground.folder.path().join("export.zip");
        fs::write(&packed, zip(&files)).unwrap();
        let report = import(&log, &packed).await.unwrap();
        assert!(report.lines().iter().all(|(_, changes)| *changes == Changes::default()), "{name}: {report:?}");
    }
}

#[tokio::test]
async fn a_zip_that_is_not_what_it_seems_is_refused() {
    let manifest = ("manifest.csv", MANIFEST.as_bytes());
    let twice = zip(&[manifest, ("a/orgs.csv", ORGS.as_bytes()), ("b/orgs.csv", ORGS.as_bytes())]);
    assert!(refusal(&twice).await.contains("two files called orgs.csv"));

    // 64 MiB of one letter are 64 KB packed.
    let bomb = vec![b'a'; 64 << 20];
    let why = refusal(&zip(&[manifest, ("orgs.csv", &bomb)])).await;
    assert!(why.contains("unpacks to far more than a roster holds"), "{why}");

    // The bit that says "encrypted", in both of an entry's headers.
    let mut encrypted = zip(&[manifest, ("orgs.csv", ORGS.as_bytes())]);
    for (signature, flags) in [(b"PK\x03\x04", 6), (b"PK\x01\x02", 8)] {
        let headers: Vec<usize> =
            encrypted.windows(4).enumerate().filter(|(_, at)| at == signature).map(|(at, _)| at).collect();
        for at in headers {
            encrypted[at + flags] |= 1;
        }
    }
    let why = refusal(&encrypted).await;
    assert!(why.to_lowercase().contains("password") || why.to_lowercase().contains("encrypt"), "{why}");

    let whole = zip(&[manifest, ("orgs.csv", ORGS.as_bytes())]);
    for cut in [0, 10, whole.len() / 2, whole.len() - 4] {
        assert!(refusal(&whole[..cut]).await.contains("roster.zip"), "cut at {cut}");
    }
}

/// A file of one line without an end: it is refused before it is held.
#[tokio::test]
async fn a_file_that_ends_nowhere_is_refused_where_it_stands() {
    let ground = Ground::sqlite();
    let log = log(&ground).await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("manifest.csv"), MANIFEST).unwrap();
    let mut file = fs::File::create(folder.path().join("orgs.csv")).unwrap();
    file.write_all(b"sourcedId,name,type\nO-1,\"").unwrap();
    for _ in 0..64 {
        file.write_all(&[b'x'; 1 << 20]).unwrap();
    }
    let why = import(&log, folder.path()).await.unwrap_err().to_string();
    assert!(why.contains("orgs.csv") && why.contains("is a quote not closed near line 2?"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_go_on_talking_while_a_school_is_imported() {
    let node = Arc::new(Node::start(Ground::sqlite()).await);
    let mut teacher = node.session(node.school.teacher).await;
    let (under_way, done) = (Arc::new(tokio::sync::Notify::new()), Arc::new(AtomicBool::new(false)));
    let importing = tokio::spawn({
        let (node, under_way, done) = (node.clone(), under_way.clone(), done.clone());
        async move {
            let tell = move |progress: roster::Progress| {
                if progress.stage.starts_with("applying") {
                    under_way.notify_one();
                }
            };
            // The one teacher of this test's school is not in that roster, and is to stay.
            let options = ImportOptions { allow_mass_removal: true, ..ImportOptions::default() };
            let log = node.log();
            let report = roster::import(log.db(), log, &repository().join("demo/school"), &options, &tell).await;
            done.store(true, Ordering::SeqCst);
            report.unwrap()
        }
    });
    under_way.notified().await;
    let command = post(node.school.room, Address::Announcements, "meanwhile");
    assert_eq!(teacher.ask(command).await["type"], "ack");
    assert!(!done.load(Ordering::SeqCst), "it was acknowledged before the import was done");
    assert_eq!(importing.await.unwrap().people.added, 264);
    // The import then put the teacher, whom its roster does not know, out of the room: what they said stays.
    let said =
        homeroom::fetch_all!(node.log().db().reads(), (i64,), "SELECT COUNT(*) FROM event WHERE kind = 'posted'");
    assert_eq!(said.unwrap()[0].0, 1);
}
