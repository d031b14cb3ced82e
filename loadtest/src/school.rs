//! A school of any size, as OneRoster 1.1 files.
//!
//! Owns: who is in which class and who speaks for whom, and writing it down as a school's system would. Refuses to
//! know: what Homeroom makes of it; so what people may see can be computed from here, and compared.

use chrono::{Days, Utc};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// How large a school, and how it is woven. By default nobody is there, and each student has one guardian of their own.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plan {
    /// Classes.
    pub classes: usize,
    /// Teachers of each class; they teach no other at first.
    pub teachers_per_class: usize,
    /// Students in all.
    pub students: usize,
    /// In how many classes each student is.
    pub classes_per_student: usize,
    /// Every n-th student has a second guardian of their own; none when 0.
    pub second_guardian_every: usize,
    /// Every n-th student shares their first guardian with the student before; none when 0.
    pub sibling_every: usize,
}

impl Plan {
    /// The classes that a student is in: neighbours are in neighbouring ones.
    pub fn classes_of(self, student: usize) -> impl Iterator<Item = usize> {
        (0..self.classes_per_student).map(move |class| (student + class) % self.classes)
    }
}

/// A school, planned.
#[derive(Debug, Clone)]
pub struct School {
    /// Class by class, the teachers' source ids.
    pub teachers: Vec<Vec<String>>,
    /// Student by student, the classes they are in.
    pub classes_of: Vec<Vec<usize>>,
    /// Guardian by guardian, the students they speak for.
    pub guardians: Vec<Vec<usize>>,
}

impl School {
    /// Plans a school.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let teachers = (0..plan.classes)
            .map(|class| (0..plan.teachers_per_class).map(|teacher| format!("teacher-{class}-{teacher}")).collect())
            .collect();
        let classes_of: Vec<Vec<usize>> =
            (0..plan.students).map(|student| plan.classes_of(student).collect()).collect();
        let mut guardians: Vec<Vec<usize>> = Vec::new();
        for student in 0..plan.students {
            match guardians.last_mut() {
                Some(before) if every(student, plan.sibling_every) => before.push(student),
                _ => guardians.push(vec![student]),
            }
        }
        let second = (0..plan.students).filter(|student| every(*student, plan.second_guardian_every));
        guardians.extend(second.map(|student| vec![student]));
        Self { teachers, classes_of, guardians }
    }

    /// A class's source id.
    #[must_use]
    pub fn class(index: usize) -> String {
        format!("class-{index}")
    }

    /// A student's source id.
    #[must_use]
    pub fn student(index: usize) -> String {
        format!("student-{index}")
    }

    /// A guardian's source id.
    #[must_use]
    pub fn guardian(index: usize) -> String {
        format!("guardian-{index}")
    }

    /// Everybody who can sign in, teachers first.
    #[must_use]
    pub fn people(&self) -> Vec<String> {
        let guardians = (0..self.guardians.len()).map(Self::guardian);
        self.staff().into_iter().chain(guardians).collect()
    }

    /// Everybody who teaches, each once, in the order of their classes.
    fn staff(&self) -> Vec<String> {
        let mut known = BTreeSet::new();
        self.teachers.iter().flatten().filter(|teacher| known.insert(*teacher)).cloned().collect()
    }

    /// Writes the files into a folder.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let today = Utc::now().date_naive();
        let begins = today.checked_sub_days(Days::new(60)).unwrap_or(today).to_string();
        let ends = today.checked_add_days(Days::new(200)).unwrap_or(today).to_string();
        let year = ends[..4].to_owned();
        let files = ["academicSessions", "orgs", "courses", "classes", "users", "enrollments"];
        let absent =
            ["categories", "classResources", "courseResources", "demographics", "lineItems", "resources", "results"];
        let mut manifest = table(folder, "manifest", &["propertyName", "value"])?;
        for (name, value) in [("manifest.version", "1.0"), ("oneroster.version", "1.1")] {
            manifest.write_record([name, value])?;
        }
        for (names, value) in [(&files[..], "bulk"), (&absent[..], "absent")] {
            for name in names {
                manifest.write_record([format!("file.{name}").as_str(), value])?;
            }
        }
        manifest.flush()?;

        let mut orgs = table(
            folder,
            "orgs",
            &["sourcedId", "status", "dateLastModified", "name", "type", "identifier", "parentSourcedId"],
        )?;
        orgs.write_record(["school", "", "", "Load Test School", "school", "", ""])?;
        orgs.flush()?;

        let columns = [
            "sourcedId",
            "status",
            "dateLastModified",
            "title",
            "type",
            "startDate",
            "endDate",
            "parentSourcedId",
            "schoolYear",
        ];
        let mut sessions = table(folder, "academicSessions", &columns)?;
        sessions.write_record(["term", "", "", "The term", "term", &begins, &ends, "", &year])?;
        sessions.flush()?;

        let columns = [
            "sourcedId",
            "status",
            "dateLastModified",
            "schoolYearSourcedId",
            "title",
            "courseCode",
            "grades",
            "orgSourcedId",
            "subjects",
            "subjectCodes",
        ];
        let mut courses = table(folder, "courses", &columns)?;
        courses.write_record(["course", "", "", "", "Everything", "", "", "school", "", ""])?;
        courses.flush()?;

        let columns = [
            "sourcedId",
            "status",
            "dateLastModified",
            "title",
            "grades",
            "courseSourcedId",
            "classCode",
            "classType",
            "location",
            "schoolSourcedId",
            "termSourcedIds",
            "subjects",
            "subjectCodes",
            "periods",
        ];
        let mut classes = table(folder, "classes", &columns)?;
        for class in 0..self.teachers.len() {
            let (id, title) = (Self::class(class), format!("Class {class}"));
            classes
                .write_record([&id, "", "", &title, "", "course", "", "homeroom", "", "school", "term", "", "", ""])?;
        }
        classes.flush()?;
        self.write_users(folder)?;
        self.write_enrollments(folder)
    }

    fn write_users(&self, folder: &Path) -> io::Result<()> {
        let columns = [
            "sourcedId",
            "status",
            "dateLastModified",
            "enabledUser",
            "orgSourcedIds",
            "role",
            "username",
            "userIds",
            "givenName",
            "familyName",
            "middleName",
            "identifier",
            "email",
            "sms",
            "phone",
            "agentSourcedIds",
            "grades",
            "password",
        ];
        let mut users = table(folder, "users", &columns)?;
        let mut user = |id: &str, role: &str, agents: &str| {
            let (given, family) = id.split_once('-').unwrap_or((id, ""));
            users.write_record([
                id, "", "", "true", "school", role, id, "", given, family, "", "", "", "", "", agents, "", "",
            ])
        };
        for teacher in &self.staff() {
            user(teacher, "teacher", "")?;
        }
        for student in 0..self.classes_of.len() {
            user(&Self::student(student), "student", "")?;
        }
        for (guardian, students) in self.guardians.iter().enumerate() {
            let agents: Vec<String> = students.iter().map(|student| Self::student(*student)).collect();
            user(&Self::guardian(guardian), "guardian", &agents.join(","))?;
        }
        users.flush()
    }

    fn write_enrollments(&self, folder: &Path) -> io::Result<()> {
        let columns = [
            "sourcedId",
            "status",
            "dateLastModified",
            "classSourcedId",
            "schoolSourcedId",
            "userSourcedId",
            "role",
            "primary",
            "beginDate",
            "endDate",
        ];
        let mut enrollments = table(folder, "enrollments", &columns)?;
        let mut enroll = |person: &str, class: usize, role: &str| {
            let class = Self::class(class);
            let id = format!("{person}-in-{class}");
            enrollments.write_record([&id, "", "", &class, "school", person, role, "", "", ""])
        };
        for (class, teachers) in self.teachers.iter().enumerate() {
            for teacher in teachers {
                enroll(teacher, class, "teacher")?;
            }
        }
        for (student, classes) in self.classes_of.iter().enumerate() {
            for class in classes {
                enroll(&Self::student(student), *class, "student")?;
            }
        }
        enrollments.flush()
    }
}

fn every(index: usize, step: usize) -> bool {
    step > 0 && index % step == step - 1
}

fn table(folder: &Path, name: &str, columns: &[&str]) -> io::Result<csv::Writer<std::fs::File>> {
    let mut writer = csv::Writer::from_path(folder.join(format!("{name}.csv")))?;
    writer.write_record(columns)?;
    Ok(writer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn teachers_come_in_the_order_of_their_classes() {
        let plan = Plan { classes: 12, teachers_per_class: 1, students: 1, classes_per_student: 1, ..Plan::default() };
        let people = School::new(plan).people();
        assert_eq!(
            (people[2].as_str(), people[11].as_str(), people[12].as_str()),
            ("teacher-2-0", "teacher-11-0", "guardian-0")
        );
    }

    #[test]
    fn families_are_woven_as_planned() {
        let school = School::new(Plan {
            classes: 2,
            teachers_per_class: 1,
            students: 4,
            classes_per_student: 2,
            second_guardian_every: 4,
            sibling_every: 2,
        });
        assert_eq!(school.guardians, [vec![0, 1], vec![2, 3], vec![3]]);
        assert_eq!(school.classes_of[1], [1, 0]);
        let folder = tempfile::tempdir().unwrap();
        school.write(folder.path()).unwrap();
        let users = std::fs::read_to_string(folder.path().join("users.csv")).unwrap();
        assert!(users.contains("\"student-0,student-1\""), "{users}");
    }
}
