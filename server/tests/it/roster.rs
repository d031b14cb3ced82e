//! Importing: the demo school, what changes and what does not, and rosters that are broken.

use crate::node::{Ground, log, repository};
use crate::on_both_engines;
use homeroom::log::Log;
use homeroom::roster::{self, Changes, ImportError, ImportOptions, Progress, Report};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

on_both_engines! {
    the_demo_school_is_imported_and_again_changes_nothing
    a_changed_roster_changes_just_that
    a_delta_changes_what_it_says
    version_1_2_says_roles_in_their_own_file
    the_required_columns_are_enough_in_both_versions
    a_delta_of_1_2_keeps_what_other_files_said
    bad_rows_are_named_and_nothing_is_applied
    a_dry_run_writes_nothing
    what_goes_with_something_else_is_counted_too
    who_names_no_language_reads_what_their_school_does
    guardians_of_a_student_without_an_account_have_their_place
    two_imports_at_once_are_one_after_the_other
}

async fn import(log: &Log, path: &Path) -> Result<Report, ImportError> {
    roster::import(log.db(), log, path, &ImportOptions::default(), &|_| {}).await
}

async fn count(log: &Log, text: &'static str) -> i64 {
    homeroom::fetch_all!(log.db().reads(), (i64,), text).unwrap()[0].0
}

fn none(report: &Report) -> bool {
    report.lines().iter().all(|(_, changes)| *changes == Changes::default())
}

/// A small school, written from the standard's tables.
fn write_1_1(folder: &Path) {
    let file = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    file(
        "manifest.csv",
        "propertyName,value\r\nmanifest.version,1.0\r\noneroster.version,1.1\r\nfile.orgs,bulk\r\nfile.academicSessions,bulk\r\n\
         file.courses,bulk\r\nfile.classes,bulk\r\nfile.users,bulk\r\nfile.enrollments,bulk\r\nfile.demographics,absent\r\n",
    );
    file(
        "orgs.csv",
        "\u{feff}sourcedId,status,dateLastModified,name,type,identifier,parentSourcedId\r\ns1,,,School One,school,,\r\n",
    );
    file(
        "academicSessions.csv",
        "sourcedId,status,dateLastModified,title,type,startDate,endDate,parentSourcedId,schoolYear\n\
         t1,,,Year,schoolYear,2020-08-01,2999-07-31,,2999\n",
    );
    file("courses.csv", "sourcedId,title,orgSourcedId\nc1,Maths,s1\n");
    // Columns in another order, and one that nobody knows.
    file(
        "classes.csv",
        "title,sourcedId,metadata.floor,courseSourcedId,classType,schoolSourcedId,termSourcedIds\n\"Maths, advanced\",k1,3,c1,scheduled,s1,t1\n",
    );
    file(
        "users.csv",
        "sourcedId,enabledUser,orgSourcedIds,role,username,givenName,familyName,agentSourcedIds,metadata.homeLanguage\n\
         u-t,true,s1,teacher,tea,Tea,Cher,,\n\
         u-s,true,s1,student,stu,Stu,Dent,u-g2,\n\
         u-g1,true,s1,parent,mum,Mum,Dent,u-s,es\n\
         u-g2,true,s1,guardian,dad,Dad,Dent,,\n",
    );
    file(
        "enrollments.csv",
        "sourcedId,classSourcedId,schoolSourcedId,userSourcedId,role\ne-t,k1,s1,u-t,teacher\ne-s,k1,s1,u-s,student\n",
    );
}

fn replace(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(file, text.replace(from, to)).unwrap();
}

async fn the_demo_school_is_imported_and_again_changes_nothing(ground: Ground) {
    let log = log(&ground).await;
    let school = repository().join("demo/school");
    let report = import(&log, &school).await.unwrap();
    assert_eq!((report.classes.added, report.orgs.added), (4, 2));
    assert!(report.people.added > 250 && report.places.added > 200, "{report:?}");
    let events = count(&log, "SELECT COUNT(*) FROM event").await;
    let again = import(&log, &school).await.unwrap();
    assert!(none(&again), "{again:?}");
    assert_eq!(count(&log, "SELECT COUNT(*) FROM event").await, events);
    let languages = count(
        &log,
        "SELECT COUNT(DISTINCT p.language) FROM person p JOIN membership m ON m.person_id = p.id WHERE m.role = 'guardian'",
    )
    .await;
    assert!(languages >= 6, "{languages}");
}

async fn a_changed_roster_changes_just_that(ground: Ground) {
    let log = log(&ground).await;
    let folder = tempfile::tempdir().unwrap();
    write_1_1(folder.path());
    let report = import(&log, folder.path()).await.unwrap();
    // Both guardians, one listed by the student, in the class's room and the school's; the teacher in both.
    assert_eq!((report.people.added, report.guardianships.added, report.places.added), (4, 2, 6));
    let language = "SELECT COUNT(*) FROM person WHERE username = 'mum' AND language = 'es'";
    assert_eq!(count(&log, language).await, 1);

    replace(&folder.path().join("users.csv"), "Mum,Dent", "Mother,Dent");
    let report = import(&log, folder.path()).await.unwrap();
    assert_eq!(report.people, Changes { changed: 1, ..Changes::default() });
    assert_eq!(report.places, Changes::default());

    // Who chose a language keeps it.
    let mum = homeroom::identity::find(log.db(), "mum").await.unwrap()[0];
    homeroom::identity::choose_language(log.db(), mum, &homeroom_protocol::Language::parse("fr").unwrap())
        .await
        .unwrap();
    replace(&folder.path().join("users.csv"), "u-s,es", "u-s,de");
    import(&log, folder.path()).await.unwrap();
    assert_eq!(count(&log, "SELECT COUNT(*) FROM person WHERE username = 'mum' AND language = 'fr'").await, 1);

    // The student leaves the class: the guardians' places end with it.
    replace(&folder.path().join("enrollments.csv"), "e-s,k1,s1,u-s,student\n", "");
    let report = import(&log, folder.path()).await.unwrap();
    assert_eq!((report.enrollments.removed, report.places.removed), (1, 4));
    assert_eq!(count(&log, "SELECT COUNT(*) FROM membership WHERE role = 'guardian' AND left_seq IS NULL").await, 0);

    replace(&folder.path().join("users.csv"), "u-g2,true,s1,guardian,dad,Dad,Dent,,\n", "");
    replace(&folder.path().join("users.csv"), "Dent,u-g2,", "Dent,,");
    let report = import(&log, folder.path()).await.unwrap();
    assert_eq!(report.people, Changes { changed: 1, removed: 1, added: 0 });
    assert!(homeroom::identity::find(log.db(), "dad").await.unwrap().is_empty());
    assert!(none(&import(&log, folder.path()).await.unwrap()));
}

async fn a_delta_changes_what_it_says(ground: Ground) {
    let log = log(&ground).await;
    let folder = tempfile::tempdir().unwrap();
    write_1_1(folder.path());
    import(&log, folder.path()).await.unwrap();
    let delta = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| fs::write(delta.path().join(name), text).unwrap();
    file("manifest.csv", "propertyName,value\noneroster.version,1.1\nfile.users,delta\nfile.enrollments,delta\n");
    file(
        "users.csv",
        "sourcedId,status,dateLastModified,enabledUser,orgSourcedIds,role,username,givenName,familyName,agentSourcedIds\n\
         u-g1,tobedeleted,2026-11-01T00:00:00Z,,,,,,,\n\
         u-g3,active,2026-11-01T00:00:00Z,true,s1,relative,gran,Gran,Dent,u-s\n",
    );
    file("enrollments.csv", "sourcedId,status,dateLastModified,classSourcedId,schoolSourcedId,userSourcedId,role\n");
    let report = import(&log, delta.path()).await.unwrap();
    assert_eq!(report.people, Changes { added: 1, changed: 0, removed: 1 });
    assert_eq!(report.places, Changes { added: 2, changed: 0, removed: 2 });
    assert_eq!(report.enrollments, Changes::default());
}

async fn version_1_2_says_roles_in_their_own_file(ground: Ground) {
    let log = log(&ground).await;
    let folder = tempfile::tempdir().unwrap();
    write_1_1(folder.path());
    let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    replace(
        &folder.path().join("manifest.csv"),
        "oneroster.version,1.1\r\n",
        "oneroster.version,1.2\r\nfile.roles,bulk\r\n",
    );
    file(
        "users.csv",
        "sourcedId,status,dateLastModified,enabledUser,username,givenName,familyName,agentSourcedIds\n\
         u-t,,,true,tea,Tea,Cher,\nu-s,,,true,stu,Stu,Dent,\nu-g1,,,true,mum,Mum,Dent,u-s\n",
    );
    file(
        "roles.csv",
        "sourcedId,status,dateLastModified,userSourcedId,roleType,role,orgSourcedId\n\
         r1,,,u-t,primary,teacher,s1\nr2,,,u-s,primary,student,s1\nr3,,,u-g1,primary,guardian,s1\n",
    );
    let zip = folder.path().join("roster.zip");
    let mut archive = zip::ZipWriter::new(fs::File::create(&zip).unwrap());
    for name in ["manifest", "orgs", "academicSessions", "courses", "classes", "users", "roles", "enrollments"] {
        archive.start_file(format!("export/{name}.csv"), zip::write::SimpleFileOptions::default()).unwrap();
        let text = fs::read(folder.path().join(format!("{name}.csv"))).unwrap();
        std::io::Write::write_all(&mut archive, &text).unwrap();
    }
    archive.finish().unwrap();
    let report = import(&log, &zip).await.unwrap();
    assert_eq!((report.people.added, report.guardianships.added, report.places.added), (3, 1, 4));
    assert!(none(&import(&log, &zip).await.unwrap()));

    // A role counts within its days: who was at the school until last year is no longer its staff, nor is who comes later.
    let roles = |teacher: &str| {
        format!(
            "sourcedId,userSourcedId,roleType,role,orgSourcedId,beginDate,endDate\n\
             r1,u-t,primary,teacher,s1,{teacher}\nr2,u-s,primary,student,s1,,\nr3,u-g1,primary,guardian,s1,2020-01-01,2999-12-31\n"
        )
    };
    for (days, places) in [
        (",2025-07-31", Changes { removed: 1, ..Changes::default() }),
        ("2025-08-01,2999-07-31", Changes { added: 1, ..Changes::default() }),
        ("2999-08-01,", Changes { removed: 1, ..Changes::default() }),
    ] {
        file("roles.csv", &roles(days));
        let report = changes_twice(&log, folder.path()).await;
        assert_eq!((report.people.changed, report.places), (1, places), "{days}");
    }
}

/// The same small school in both versions, each with nothing but the required columns.
async fn the_required_columns_are_enough_in_both_versions(ground: Ground) {
    let log = log(&ground).await;
    let fixtures = repository().join("server/tests/fixtures");
    let report = import(&log, &fixtures.join("oneroster-1.1-min")).await.unwrap();
    // Sami has Pat, Suvi has Pat and Rae: three places and a teacher's in the class's room and in the school's.
    assert_eq!((report.people.added, report.guardianships.added, report.places.added), (5, 3, 8));
    // A change of version moves roles into a file of their own, and changes nothing that anybody sees.
    let report = import(&log, &fixtures.join("oneroster-1.2-min")).await.unwrap();
    assert_eq!((report.people.added, report.people.removed), (0, 0));
    assert_eq!((report.guardianships, report.places), (Changes::default(), Changes::default()));
    assert!(none(&import(&log, &fixtures.join("oneroster-1.2-min")).await.unwrap()));
}

async fn a_delta_of_1_2_keeps_what_other_files_said(ground: Ground) {
    let log = log(&ground).await;
    let folder = tempfile::tempdir().unwrap();
    write_1_1(folder.path());
    let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    replace(
        &folder.path().join("manifest.csv"),
        "oneroster.version,1.1\r\n",
        "oneroster.version,1.2\r\nfile.roles,bulk\r\n",
    );
    replace(&folder.path().join("manifest.csv"), "file.demographics,absent", "file.demographics,bulk");
    file(
        "users.csv",
        "sourcedId,enabledUser,username,givenName,familyName,agentSourcedIds\nu-t,true,tea,Tea,Cher,\nu-s,true,stu,Stu,Dent,\nu-g1,true,mum,Mum,Dent,u-s\n",
    );
    file(
        "roles.csv",
        "sourcedId,userSourcedId,roleType,role,orgSourcedId\nr1,u-t,primary,teacher,s1\nr2,u-s,primary,student,s1\nr3,u-g1,primary,guardian,s1\n",
    );
    file("demographics.csv", "sourcedId,birthDate,sex\nu-s,2018-02-03,female\n");
    import(&log, folder.path()).await.unwrap();

    // A name changes: the role and the birth date stand in files that are not sent again.
    let delta = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| fs::write(delta.path().join(name), text).unwrap();
    file("manifest.csv", "propertyName,value\noneroster.version,1.2\nfile.users,delta\n");
    file(
        "users.csv",
        "sourcedId,status,dateLastModified,enabledUser,username,givenName,familyName,agentSourcedIds\n\
         u-g1,active,2026-11-01T00:00:00Z,true,mum,Mother,Dent,u-s\nu-s,active,2026-11-01T00:00:00Z,true,stu,Stuart,Dent,\n\
         u-t,active,2026-11-01T00:00:00Z,true,tea,Thea,Cher,\n",
    );
    let report = import(&log, delta.path()).await.unwrap();
    assert_eq!(report.people, Changes { changed: 3, ..Changes::default() });
    assert_eq!((report.guardianships, report.places), (Changes::default(), Changes::default()));
    assert_eq!(count(&log, "SELECT COUNT(*) FROM person_role").await, 3);
    assert_eq!(count(&log, "SELECT COUNT(*) FROM person WHERE birth_date = '2018-02-03'").await, 1);
    assert!(none(&import(&log, delta.path()).await.unwrap()));

    // Only a role and a birth date change: the teacher is staff of the class by enrolment, of the school no more.
    file("manifest.csv", "propertyName,value\noneroster.version,1.2\nfile.roles,delta\nfile.demographics,delta\n");
    file(
        "roles.csv",
        "sourcedId,status,dateLastModified,userSourcedId,roleType,role,orgSourcedId\nr1,tobedeleted,2026-11-02T00:00:00Z,,,,\n",
    );
    file(
        "demographics.csv",
        "sourcedId,status,dateLastModified,birthDate\nu-s,active,2026-11-02T00:00:00Z,2018-02-04\n",
    );
    let dry = ImportOptions { dry_run: true, ..ImportOptions::default() };
    let report = roster::import(log.db(), &log, delta.path(), &dry, &|_| {}).await.unwrap();
    assert_eq!(report.people.changed, 2);
    let report = import(&log, delta.path()).await.unwrap();
    assert_eq!(report.people, Changes { changed: 2, ..Changes::default() });
    assert_eq!(report.places, Changes { removed: 1, ..Changes::default() });
    assert_eq!(count(&log, "SELECT COUNT(*) FROM person WHERE birth_date = '2018-02-04'").await, 1);
    assert!(none(&import(&log, delta.path()).await.unwrap()));

    // What says everything says the last word.
    assert_eq!(import(&log, folder.path()).await.unwrap().places, Changes { added: 1, ..Changes::default() });
    assert!(none(&import(&log, folder.path()).await.unwrap()));
}

async fn bad_rows_are_named_and_nothing_is_applied(ground: Ground) {
    let log = log(&ground).await;
    let folder = tempfile::tempdir().unwrap();
    write_1_1(folder.path());
    let enrollments = folder.path().join("enrollments.csv");
    let mut text = fs::read(&enrollments).unwrap();
    text.extend_from_slice(
        b"e-x,k1,s1,u-nobody,student\ne-y,k1,s1,u-s,wizard\ne-t,k1,s1,u-t,teacher\n,k1,s1,u-t,teacher\ne-z,k1,s1,u-\xFF,student\n",
    );
    fs::write(&enrollments, text).unwrap();
    replace(&folder.path().join("academicSessions.csv"), "2999-07-31", "31.7.2999");
    let Err(ImportError::Bad { rows, .. }) = import(&log, folder.path()).await else { panic!("it is broken") };
    let said: Vec<String> = rows.iter().map(ToString::to_string).collect();
    for part in [
        "enrollments.csv, line 4, userSourcedId \"u-nobody\": is not in users.csv",
        "enrollments.csv, line 5, role \"wizard\": is not one of",
        "enrollments.csv, line 6, sourcedId \"e-t\": stands twice",
        "enrollments.csv, line 7, sourcedId: is empty",
        "enrollments.csv, line 8, userSourcedId \"u-\u{fffd}\": is not UTF-8",
        "academicSessions.csv, line 2, endDate \"31.7.2999\": is not a date",
    ] {
        assert!(said.iter().any(|row| row.contains(part)), "{part} is missing from {said:#?}");
    }
    // What refers to a bad row is bad too: the class has no term, so its enrolments have no class.
    assert!(said.iter().any(|row| row.contains("classes.csv, line 2, termSourcedIds")), "{said:#?}");
    assert_eq!(count(&log, "SELECT COUNT(*) FROM person").await, 0);

    let skipped = folder.path().join("bad.csv");
    let options = ImportOptions { skip_bad_rows: Some(skipped.clone()), ..ImportOptions::default() };
    replace(&folder.path().join("academicSessions.csv"), "31.7.2999", "2999-07-31");
    let report = roster::import(log.db(), &log, folder.path(), &options, &|_| {}).await.unwrap();
    assert_eq!((report.skipped, report.enrollments.added), (5, 2));
    // What an office mends: each row as it stands in its file, beside what is wrong with it.
    let mut written = csv::Reader::from_path(&skipped).unwrap();
    let records: Vec<csv::StringRecord> = written.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), 5);
    for record in &records {
        let source = fs::read(folder.path().join(&record[0])).unwrap();
        let source = String::from_utf8_lossy(&source).into_owned();
        let line: usize = record[1].parse().unwrap();
        assert_eq!(
            source.lines().nth(line - 1).unwrap().trim_end().replace('"', ""),
            record[5].replace('"', ""),
            "{record:?}"
        );
        assert!(!record[4].is_empty());
    }

    // Who is known and stands in a bad row stays as they were: left out is not gone.
    replace(&folder.path().join("users.csv"), "u-s,es", "u-s,no language");
    let report = roster::import(log.db(), &log, folder.path(), &options, &|_| {}).await.unwrap();
    assert_eq!(report.skipped, 6);
    assert!(none(&report), "{report:?}");
}

async fn a_dry_run_writes_nothing(ground: Ground) {
    let log = log(&ground).await;
    let folder = tempfile::tempdir().unwrap();
    write_1_1(folder.path());
    let options = ImportOptions { dry_run: true, ..ImportOptions::default() };
    let report = roster::import(log.db(), &log, folder.path(), &options, &|_| {}).await.unwrap();
    assert_eq!((report.people.added, report.guardianships.added, report.dry_run), (4, 2, true));
    for text in ["SELECT COUNT(*) FROM person", "SELECT COUNT(*) FROM district", "SELECT COUNT(*) FROM room"] {
        assert_eq!(count(&log, text).await, 0, "{text}");
    }
}

/// What a dry run says is what then happens; places in rooms are not asked for by it.
async fn changes_twice(log: &Log, folder: &Path) -> Report {
    let options = ImportOptions { dry_run: true, ..ImportOptions::default() };
    let said = roster::import(log.db(), log, folder, &options, &|_| {}).await.unwrap();
    let done = import(log, folder).await.unwrap();
    assert_eq!(Report { places: done.places, dry_run: false, ..said }, done);
    assert!(none(&import(log, folder).await.unwrap()));
    done
}

async fn what_goes_with_something_else_is_counted_too(ground: Ground) {
    let log = log(&ground).await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write_1_1(folder.path());
    changes_twice(&log, folder.path()).await;
    // A delta that says of the student only that they are gone.
    file("manifest.csv", "propertyName,value\noneroster.version,1.1\nfile.users,delta\n");
    let users = "sourcedId,status,dateLastModified,enabledUser,orgSourcedIds,role,username,givenName,familyName\n\
                 u-s,tobedeleted,2026-11-24T00:00:00.000Z,,,,,,\n";
    file("users.csv", users);
    let report = changes_twice(&log, folder.path()).await;
    let removed = (report.people.removed, report.enrollments.removed, report.guardianships.removed);
    assert_eq!(removed, (1, 1, 2));

    // Everything, without one guardian, whom the student no longer lists.
    write_1_1(folder.path());
    changes_twice(&log, folder.path()).await;
    replace(&folder.path().join("users.csv"), "u-g2,true,s1,guardian,dad,Dad,Dent,,\n", "");
    replace(&folder.path().join("users.csv"), "Dent,u-g2,", "Dent,,");
    let report = changes_twice(&log, folder.path()).await;
    let removed = (report.people.removed, report.enrollments.removed, report.guardianships.removed);
    assert_eq!(removed, (1, 0, 1));

    // A class that is gone takes its enrolments along.
    file("manifest.csv", "propertyName,value\noneroster.version,1.1\nfile.classes,delta\n");
    let classes = "sourcedId,status,dateLastModified,title,courseSourcedId,classType,schoolSourcedId,termSourcedIds\n\
                   k1,tobedeleted,2026-11-24,,,,,\n";
    file("classes.csv", classes);
    let report = changes_twice(&log, folder.path()).await;
    assert_eq!((report.classes.removed, report.enrollments.removed), (1, 2));
}

async fn who_names_no_language_reads_what_their_school_does(ground: Ground) {
    let log = log(&ground).await;
    let folder = tempfile::tempdir().unwrap();
    write_1_1(folder.path());
    import(&log, folder.path()).await.unwrap();
    let reading = "SELECT COUNT(*) FROM person WHERE language = 'de'";
    assert_eq!(count(&log, reading).await, 0);
    let orgs = "sourcedId,name,type,metadata.language\ns0,District,district,fr\ns1,School One,school,de\n";
    fs::write(folder.path().join("orgs.csv"), orgs).unwrap();
    replace(&folder.path().join("users.csv"), "u-t,true,s1", "u-t,true,\"s0,s1\"");
    let report = changes_twice(&log, folder.path()).await;
    // All but the mother, whose own language is Spanish.
    assert_eq!((report.people.changed, count(&log, reading).await), (3, 3));
}

async fn guardians_of_a_student_without_an_account_have_their_place(ground: Ground) {
    let log = log(&ground).await;
    let folder = tempfile::tempdir().unwrap();
    write_1_1(folder.path());
    replace(&folder.path().join("users.csv"), "u-s,true", "u-s,false");
    assert_eq!(import(&log, folder.path()).await.unwrap().places.added, 6);
    assert!(homeroom::identity::find(log.db(), "stu").await.unwrap().is_empty());
}

async fn two_imports_at_once_are_one_after_the_other(ground: Ground) {
    let log = log(&ground).await;
    let folder = tempfile::tempdir().unwrap();
    write_1_1(folder.path());
    // The second begins and ends while the first is in the middle.
    let (in_the_middle, begin) = tokio::sync::oneshot::channel();
    let (ended, second) = std::sync::mpsc::sync_channel(1);
    let (there, path) = (log.clone(), folder.path().to_owned());
    tokio::spawn(async move {
        begin.await.unwrap();
        ended.send(import(&there, &path).await).unwrap();
    });
    let waits = Mutex::new(Some((in_the_middle, second)));
    let while_it_runs = Mutex::new(None);
    let progress = |_: Progress| {
        if let Some((in_the_middle, second)) = waits.lock().unwrap().take() {
            in_the_middle.send(()).unwrap();
            *while_it_runs.lock().unwrap() = second.recv_timeout(Duration::from_secs(20)).ok();
        }
    };
    let first = roster::import(log.db(), &log, folder.path(), &ImportOptions::default(), &progress).await.unwrap();
    assert_eq!(first.people.added, 4);
    let refused = while_it_runs.into_inner().unwrap().expect("it waits for nothing").unwrap_err();
    assert!(matches!(refused, ImportError::Running), "{refused}");
    assert!(none(&import(&log, folder.path()).await.unwrap()), "afterwards it is free again");
}

#[tokio::test]
async fn what_is_no_roster_is_told_so() {
    let ground = Ground::sqlite();
    let log = log(&ground).await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    assert!(matches!(import(&log, folder.path()).await, Err(ImportError::NoManifest)));
    file("manifest.csv", "propertyName,value\noneroster.version,2.0\nfile.users,bulk\n");
    assert!(matches!(import(&log, folder.path()).await, Err(ImportError::Version(version)) if version == "2.0"));
    file("manifest.csv", "propertyName,value\noneroster.version,1.1\nfile.users,bulk\n");
    let Err(ImportError::Bad { rows, .. }) = import(&log, folder.path()).await else { panic!() };
    assert!(rows[0].to_string().contains("users.csv: is named in the manifest but is not there"));
    file("users.csv", "sourcedId,username\n");
    let Err(ImportError::Bad { rows, .. }) = import(&log, folder.path()).await else { panic!() };
    assert!(rows.iter().any(|row| row.to_string().contains("familyName: is missing from the first line")), "{rows:?}");
    file("not.zip", "this is no zip");
    assert!(matches!(import(&log, &folder.path().join("not.zip")).await, Err(ImportError::Unreadable(_))));
    // A quote that is never closed does not take the whole file into memory.
    let mut text = String::from("sourcedId,enabledUser,orgSourcedIds,role,username,givenName,familyName\n\"u1,");
    text.push_str(&"x".repeat(2_000_000));
    file("users.csv", &text);
    let Err(ImportError::Unreadable(why)) = import(&log, folder.path()).await else { panic!() };
    assert!(why.contains("quote"), "{why}");
}

#[tokio::test]
async fn more_than_half_of_a_school_is_not_removed_by_mistake() {
    let ground = Ground::sqlite();
    let log = log(&ground).await;
    import(&log, &repository().join("demo/school")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(repository().join("demo/school")).unwrap() {
        let entry = entry.unwrap();
        let text = fs::read_to_string(entry.path()).unwrap();
        let cut = match entry.file_name().to_str().unwrap() {
            "users.csv" => text.lines().take(3).collect::<Vec<_>>().join("\n"),
            "enrollments.csv" | "demographics.csv" => text.lines().take(1).collect(),
            _ => text,
        };
        fs::write(folder.path().join(entry.file_name()), cut).unwrap();
    }
    let people = count(&log, "SELECT COUNT(*) FROM person WHERE enabled").await;
    assert!(matches!(import(&log, folder.path()).await, Err(ImportError::MassRemoval { .. })));
    assert_eq!(count(&log, "SELECT COUNT(*) FROM person WHERE enabled").await, people);
    let options = ImportOptions { allow_mass_removal: true, ..ImportOptions::default() };
    roster::import(log.db(), &log, folder.path(), &options, &|_| {}).await.unwrap();
    assert_eq!(count(&log, "SELECT COUNT(*) FROM person WHERE enabled").await, 2);
}

/// Rows of values that mean something, with now and then one that means nothing, and bytes that are no text at all.
fn anything() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        4 => prop::sample::select(vec!["u1", "u2", "s1", "true", "student", "parent", "", "tobedeleted", "2026-01-01", "\"a,b\""])
            .prop_map(|word| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..12),
    ];
    let row = prop::collection::vec(value, 0..10).prop_map(|values| values.join(&b","[..]));
    prop::collection::vec(row, 0..20).prop_map(|rows| rows.join(&b"\n"[..]))
}

#[tokio::test]
async fn no_bytes_break_the_reader() {
    let ground = Ground::sqlite();
    let log = log(&ground).await;
    let folder = tempfile::tempdir().unwrap();
    write_1_1(folder.path());
    let skip = Some(folder.path().join("skipped.csv"));
    let mut runner = TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() });
    for _ in 0..64 {
        let bytes = anything().new_tree(&mut runner).unwrap().current();
        let head: &[u8] =
            b"sourcedId,status,enabledUser,orgSourcedIds,role,username,givenName,familyName,agentSourcedIds,email\n";
        fs::write(folder.path().join("users.csv"), [head, &bytes].concat()).unwrap();
        let options = ImportOptions { skip_bad_rows: skip.clone(), dry_run: true, ..ImportOptions::default() };
        // Whether it is taken or refused: it says so, and the next one is read.
        match roster::import(log.db(), &log, folder.path(), &options, &|_| {}).await {
            Ok(_) | Err(ImportError::Unreadable(_)) => {}
            Err(other) => panic!("{other:?}: {bytes:?}"),
        }
    }
    assert_eq!(count(&log, "SELECT COUNT(*) FROM person").await, 0);
}
