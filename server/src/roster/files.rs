//! The files of OneRoster CSV 1.1 and 1.2: which columns they must have, and what a value may be.
//!
//! Owns: the standard's tables, as data. Refuses to know: where the files lie, and what is done with their rows.

/// The versions of the standard that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// OneRoster 1.1.
    V1_1,
    /// OneRoster 1.2.
    V1_2,
}

/// Whether a file says everything, or what changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Everything: what is missing is gone.
    Bulk,
    /// What changed since.
    Delta,
    /// There is no such file.
    Absent,
}

/// A file of the roster, in the order in which files are read: what others refer to comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum File {
    /// Schools and what stands above them.
    Orgs,
    /// Years, semesters, terms.
    AcademicSessions,
    /// Courses.
    Courses,
    /// Classes.
    Classes,
    /// Students, teachers, guardians.
    Users,
    /// 1.2: what users are at which school.
    Roles,
    /// Birth dates.
    Demographics,
    /// Who is in which class.
    Enrollments,
}

/// A column that must be there and filled, by version.
struct Column(&'static str, Need);

#[derive(PartialEq, Eq)]
enum Need {
    Always,
    Only1_1,
}

/// What a value must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `YYYY-MM-DD`, or a moment that begins so.
    Date,
    /// `true` or `false`.
    Truth,
    /// A BCP 47 tag.
    Language,
    /// One word of the standard or, by its own words, `ext:` and one's own.
    Word(&'static [&'static str]),
    /// Text.
    Text,
}

/// What a column's values name: rows of another file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference {
    /// The column.
    pub column: &'static str,
    /// The file whose `sourcedId` it names.
    pub to: File,
    /// Whether it holds a list, separated by commas.
    pub list: bool,
}

const fn reference(column: &'static str, to: File) -> Reference {
    Reference { column, to, list: false }
}

const fn references(column: &'static str, to: File) -> Reference {
    Reference { column, to, list: true }
}

impl File {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Orgs,
        Self::AcademicSessions,
        Self::Courses,
        Self::Classes,
        Self::Users,
        Self::Roles,
        Self::Demographics,
        Self::Enrollments,
    ];

    /// As the manifest calls it; the file is this and `.csv`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Orgs => "orgs",
            Self::AcademicSessions => "academicSessions",
            Self::Courses => "courses",
            Self::Classes => "classes",
            Self::Users => "users",
            Self::Roles => "roles",
            Self::Demographics => "demographics",
            Self::Enrollments => "enrollments",
        }
    }

    fn columns(self) -> &'static [Column] {
        use Need::{Always, Only1_1};
        match self {
            Self::Orgs => &[Column("sourcedId", Always), Column("name", Always), Column("type", Always)],
            Self::AcademicSessions => &[
                Column("sourcedId", Always),
                Column("title", Always),
                Column("type", Always),
                Column("startDate", Always),
                Column("endDate", Always),
                Column("schoolYear", Always),
            ],
            Self::Courses => &[Column("sourcedId", Always), Column("title", Always), Column("orgSourcedId", Always)],
            Self::Classes => &[
                Column("sourcedId", Always),
                Column("title", Always),
                Column("courseSourcedId", Always),
                Column("classType", Always),
                Column("schoolSourcedId", Always),
                Column("termSourcedIds", Always),
            ],
            Self::Users => &[
                Column("sourcedId", Always),
                Column("enabledUser", Always),
                Column("orgSourcedIds", Only1_1),
                Column("role", Only1_1),
                Column("username", Always),
                Column("givenName", Always),
                Column("familyName", Always),
            ],
            Self::Roles => &[
                Column("sourcedId", Always),
                Column("userSourcedId", Always),
                Column("roleType", Always),
                Column("role", Always),
                Column("orgSourcedId", Always),
            ],
            Self::Demographics => &[Column("sourcedId", Always)],
            Self::Enrollments => &[
                Column("sourcedId", Always),
                Column("classSourcedId", Always),
                Column("schoolSourcedId", Always),
                Column("userSourcedId", Always),
                Column("role", Always),
            ],
        }
    }

    /// The columns that every row must fill.
    pub fn required(self, version: Version) -> impl Iterator<Item = &'static str> {
        self.columns()
            .iter()
            .filter(move |column| column.1 == Need::Always || version == Version::V1_1)
            .map(|column| column.0)
    }

    /// The columns that are read; others are passed over.
    #[must_use]
    pub fn read(self) -> &'static [&'static str] {
        match self {
            Self::Orgs => &["name", "type", "parentSourcedId", "metadata.language"],
            Self::AcademicSessions => &["title", "type", "startDate", "endDate", "schoolYear", "parentSourcedId"],
            Self::Courses => &["title", "orgSourcedId"],
            Self::Classes => &["title", "courseSourcedId", "classType", "schoolSourcedId", "termSourcedIds"],
            Self::Users => &[
                "enabledUser",
                "orgSourcedIds",
                "role",
                "username",
                "givenName",
                "familyName",
                "email",
                "sms",
                "phone",
                "agentSourcedIds",
                "metadata.homeLanguage",
            ],
            Self::Roles => &["userSourcedId", "roleType", "role", "orgSourcedId", "beginDate", "endDate"],
            // Nothing else of this file is needed, so nothing else of it is kept.
            Self::Demographics => &["birthDate"],
            Self::Enrollments => {
                &["classSourcedId", "schoolSourcedId", "userSourcedId", "role", "beginDate", "endDate"]
            }
        }
    }

    /// The columns that say from which day to which one.
    #[must_use]
    pub fn span(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::AcademicSessions => Some(("startDate", "endDate")),
            Self::Roles | Self::Enrollments => Some(("beginDate", "endDate")),
            _ => None,
        }
    }

    /// What a column's values must look like.
    #[must_use]
    pub fn form(self, column: &str) -> Form {
        const ORG: &[&str] = &["department", "school", "district", "local", "state", "national"];
        const SESSION: &[&str] = &["gradingPeriod", "semester", "schoolYear", "term"];
        const CLASS: &[&str] = &["homeroom", "scheduled"];
        const USER: &[&str] = &[
            "administrator",
            "aide",
            "guardian",
            "parent",
            "proctor",
            "relative",
            "student",
            "teacher",
            "counselor",
            "districtAdministrator",
            "principal",
            "siteAdministrator",
            "systemAdministrator",
        ];
        const ENROLLMENT: &[&str] = &["administrator", "proctor", "student", "teacher", "aide"];
        match (self, column) {
            (_, "startDate" | "endDate" | "beginDate" | "birthDate") => Form::Date,
            (_, "enabledUser") => Form::Truth,
            (_, "metadata.homeLanguage" | "metadata.language") => Form::Language,
            (Self::Orgs, "type") => Form::Word(ORG),
            (Self::AcademicSessions, "type") => Form::Word(SESSION),
            (Self::Classes, "classType") => Form::Word(CLASS),
            (Self::Users | Self::Roles, "role") => Form::Word(USER),
            (Self::Enrollments, "role") => Form::Word(ENROLLMENT),
            (Self::Roles, "roleType") => Form::Word(&["primary", "secondary"]),
            _ => Form::Text,
        }
    }

    /// The columns that name rows of other files.
    #[must_use]
    pub fn references(self) -> &'static [Reference] {
        const ORGS: &[Reference] = &[reference("parentSourcedId", File::Orgs)];
        const SESSIONS: &[Reference] = &[reference("parentSourcedId", File::AcademicSessions)];
        const COURSES: &[Reference] = &[reference("orgSourcedId", File::Orgs)];
        const CLASSES: &[Reference] = &[
            reference("courseSourcedId", File::Courses),
            reference("schoolSourcedId", File::Orgs),
            references("termSourcedIds", File::AcademicSessions),
        ];
        const USERS: &[Reference] =
            &[references("orgSourcedIds", File::Orgs), references("agentSourcedIds", File::Users)];
        const ROLES: &[Reference] = &[reference("userSourcedId", File::Users), reference("orgSourcedId", File::Orgs)];
        const DEMOGRAPHICS: &[Reference] = &[reference("sourcedId", File::Users)];
        const ENROLLMENTS: &[Reference] = &[
            reference("classSourcedId", File::Classes),
            reference("schoolSourcedId", File::Orgs),
            reference("userSourcedId", File::Users),
        ];
        match self {
            Self::Orgs => ORGS,
            Self::AcademicSessions => SESSIONS,
            Self::Courses => COURSES,
            Self::Classes => CLASSES,
            Self::Users => USERS,
            Self::Roles => ROLES,
            Self::Demographics => DEMOGRAPHICS,
            Self::Enrollments => ENROLLMENTS,
        }
    }
}

impl Form {
    /// Why a value does not have this form; nothing when it has.
    #[must_use]
    pub fn refuses(self, value: &str) -> Option<String> {
        match self {
            Self::Text => None,
            Self::Date => {
                let day = chrono::NaiveDate::parse_from_str(date(value), "%Y-%m-%d").ok();
                // Days are compared as texts, so each needs all its digits.
                let whole = day.is_some_and(|day| day.format("%Y-%m-%d").to_string() == date(value));
                (!whole).then(|| "is not a date; use YYYY-MM-DD".to_owned())
            }
            Self::Truth => (!matches!(value.to_ascii_lowercase().as_str(), "true" | "false" | "1" | "0"))
                .then(|| "is neither true nor false".to_owned()),
            Self::Language => homeroom_protocol::Language::parse(value)
                .err()
                .map(|_| "is not a language tag; use BCP 47, such as es or zh-Hans".to_owned()),
            Self::Word(words) => {
                let known = words.iter().any(|word| word.eq_ignore_ascii_case(value)) || value.starts_with("ext:");
                (!known).then(|| format!("is not one of {}", words.join(", ")))
            }
        }
    }
}

/// The day of a date or moment.
#[must_use]
pub fn date(value: &str) -> &str {
    value.get(..10).filter(|_| value.as_bytes().get(10).is_none_or(|next| *next == b'T')).unwrap_or(value)
}
