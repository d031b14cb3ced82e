//! The command line.
//!
//! Owns: the commands and their help, and what is shown in a terminal. Refuses to know: how the work is done.
//!
//! Exit codes: 0 done, 1 failed, 2 the command or the configuration makes no sense, 3 a roster has bad rows.

mod doctor;
mod serve;
mod show;

use crate::config::{Config, Layers, SETTINGS};
use crate::control::{self, Answer, Hands, Request};
use crate::db::{Db, Location};
use crate::doctor::{Finding, examine};
use crate::log::{Listeners, Log};
use crate::roster::ImportOptions;
use clap::{Arg, ArgAction, ArgMatches, Command};
use homeroom_protocol::Role;
use std::error::Error;
use std::fs::{DirBuilder, File};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serve::serve;
pub use show::chain;
use show::{Bar, complain, fail, say, show_import, show_invited, unexpected};

const FAILED: u8 = 1;
const SENSELESS: u8 = 2;
const BAD_ROWS: u8 = 3;

/// The command line's grammar.
#[must_use]
pub fn grammar() -> Command {
    let mut homeroom = Command::new("homeroom")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Homeroom: the real-time line between home and school")
        .after_help(
            "Every setting is also an environment variable (HOMEROOM_LISTEN, HOMEROOM_DATA_DIR, …) and a key in the \
             configuration file. Flags win over the environment, and that over the file.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(
            Arg::new("config")
                .long("config")
                .global(true)
                .value_name("FILE")
                .help("Configuration file (TOML) [default: homeroom.toml in the data folder, if it is there]")
                .help_heading("Settings"),
        );
    for setting in &SETTINGS {
        let default =
            if setting.default.is_empty() { String::new() } else { format!(" [default: {}]", setting.default) };
        homeroom = homeroom.arg(
            Arg::new(setting.key)
                .long(setting.flag)
                .global(true)
                .value_name("VALUE")
                .help(format!("{}{default}", setting.help))
                .help_heading("Settings"),
        );
    }
    let people = || {
        Arg::new("people")
            .value_name("PERSON")
            .num_args(0..)
            .help("sourcedId or username of the roster; several are fine")
    };
    let json = || Arg::new("json").long("json").action(ArgAction::SetTrue).help("Answer in JSON, for programs");
    homeroom
        .subcommand(Command::new("serve").about("Start a server").after_help(
            "Example: homeroom serve --listen 0.0.0.0:8080 --public-url https://homeroom.example\n\n\
             Stops on SIGTERM or Ctrl-C: sessions are told when to come back. A second signal stops at once.",
        ))
        .subcommand(Command::new("migrate").about("Bring the database's schema up to date").after_help(
            "A server does this by itself when it starts. Run it beforehand to see that it works.",
        ))
        .subcommand(
            Command::new("import")
                .about("Import a school from OneRoster CSV 1.1 or 1.2")
                .after_help(
                    "Examples:\n  homeroom import roster.zip --dry-run\n  homeroom import export/ --skip-bad-rows bad.csv\n\n\
                     Everything is checked before anything is written. The same roster twice changes nothing.\n\
                     Talks to the running server of the data folder, if there is one.",
                )
                .arg(Arg::new("path").value_name("FOLDER-OR-ZIP").required(true).help("What the school's system exported"))
                .arg(Arg::new("dry-run").long("dry-run").action(ArgAction::SetTrue).help("Only say what would change"))
                .arg(
                    Arg::new("skip-bad-rows")
                        .long("skip-bad-rows")
                        .value_name("FILE")
                        .help("Leave bad rows out, and write them to FILE"),
                )
                .arg(
                    Arg::new("allow-mass-removal")
                        .long("allow-mass-removal")
                        .action(ArgAction::SetTrue)
                        .help("Go on although more than half of the people would be removed"),
                )
                .arg(json()),
        )
        .subcommand(
            Command::new("invite")
                .about("Make one-time links and codes to sign in with, good for 14 days")
                .after_help("Examples:\n  homeroom invite ana.silva\n  homeroom invite --role guardian --json")
                .arg(people())
                .arg(
                    Arg::new("role")
                        .long("role")
                        .value_parser(["staff", "guardian"])
                        .action(ArgAction::Append)
                        .help("Everybody who is this somewhere"),
                )
                .arg(json()),
        )
        .subcommand(
            Command::new("sign-out")
                .about("End all sign-ins and open invitations of people")
                .arg(people().required(true)),
        )
        .subcommand(
            Command::new("backup")
                .about("Write a copy of the SQLite database, while it is used")
                .after_help(
                    "To restore it: stop the server; move homeroom.db, homeroom.db-wal and homeroom.db-shm out of the data folder, all \
                     that are there; put the copy there as homeroom.db; start the server.",
                )
                .arg(Arg::new("file").value_name("FILE").required(true).help("Where to; must not be there yet")),
        )
        .subcommand(
            Command::new("doctor")
                .about("Look everything over that the configuration names, and say what to do")
                .after_help(
                    "Works beside a running server and without one, and changes nothing. Ends with 0, or with 1 where something is \
                     broken; what only needs attention is no failure.",
                )
                .arg(json()),
        )
        .subcommand(
            Command::new("status").about("Say whether a server runs on the data folder, and how many people its roster has"),
        )
}

/// Runs a command.
#[must_use]
pub fn run() -> ExitCode {
    let matches = match grammar().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            let code = if error.use_stderr() { ExitCode::from(SENSELESS) } else { ExitCode::SUCCESS };
            // Nowhere to say that help could not be said.
            let _unsaid = error.print();
            return code;
        }
    };
    let Some((name, arguments)) = matches.subcommand() else { return ExitCode::from(SENSELESS) };
    let config = match configuration(arguments) {
        Ok(config) => config,
        Err(error) if name == "doctor" => {
            return doctor::show(&[Finding::misconfigured(&error.to_string())], arguments.get_flag("json"));
        }
        Err(error) => return fail(SENSELESS, &*error),
    };
    // Whoever looks for a folder that is missing must not make it.
    if name != "doctor"
        && let Err(why) = ground(name, &config)
    {
        return complain(SENSELESS, &why);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(command(name, arguments, &config)),
        Err(error) => fail(FAILED, &error),
    }
}

/// Makes the data folder for what begins something, for its owner alone. What goes on with something finds it there: elsewhere, in a
/// folder that was mistyped for instance, an empty database would be made, and a copy of that would be a backup of nothing.
fn ground(name: &str, config: &Config) -> Result<(), String> {
    let folder = config.data_dir.display();
    match &config.database {
        Location::Sqlite(file) if !matches!(name, "serve" | "migrate" | "import" | "status") => {
            let missing = || {
                format!(
                    "there is no Homeroom in {folder} yet; name another folder with --data-dir, or import a school first"
                )
            };
            if file.exists() { Ok(()) } else { Err(missing()) }
        }
        Location::Sqlite(_) if name == "status" => Ok(()),
        _ => DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&config.data_dir)
            .map_err(|error| format!("the data folder {folder} can't be made: {error}")),
    }
}

async fn command(name: &str, arguments: &ArgMatches, config: &Config) -> ExitCode {
    let text = |name: &str| arguments.get_one::<String>(name).cloned().unwrap_or_default();
    let flag = |name: &str| arguments.get_flag(name);
    let people = || arguments.get_many::<String>("people").into_iter().flatten().cloned().collect::<Vec<String>>();
    match name {
        "serve" => serve(config).await,
        "doctor" => doctor::show(&examine(config).await, flag("json")),
        "migrate" => migrate(config).await,
        "import" => {
            let options = ImportOptions {
                dry_run: flag("dry-run"),
                skip_bad_rows: arguments.get_one::<String>("skip-bad-rows").map(|file| absolute(file)),
                allow_mass_removal: flag("allow-mass-removal"),
            };
            let request = Request::Import { path: absolute(&text("path")), options };
            show_import(ask(config, request).await, flag("json"))
        }
        "invite" => {
            let role = |name: &String| if name == "staff" { Role::Staff } else { Role::Guardian };
            let roles: Vec<Role> = arguments.get_many("role").into_iter().flatten().map(role).collect();
            let people = people();
            if people.is_empty() && roles.is_empty() {
                return complain(SENSELESS, "name somebody: `homeroom invite PERSON`, or `--role guardian`");
            }
            show_invited(ask(config, Request::Invite { people, roles }).await, flag("json"))
        }
        "sign-out" => match ask(config, Request::SignOut { people: people() }).await {
            Ok(Answer::SignedOut { count }) => say(&format!("{count} sign-in(s) ended")),
            other => unexpected(other),
        },
        "backup" => match ask(config, Request::Backup { file: absolute(&text("file")) }).await {
            Ok(Answer::BackedUp { bytes }) => say(&format!("{bytes} bytes written and checked")),
            other => unexpected(other),
        },
        _ => match control::ask(&config.data_dir, &Request::Status, |_| {}).await {
            Ok(Some(Answer::Status { people })) => say(&format!("a server runs; its roster has {people} people")),
            Ok(Some(other)) => unexpected(Ok(other)),
            Ok(None) => complain(FAILED, &format!("no server runs on {}", config.data_dir.display())),
            Err(error) => fail(FAILED, &error),
        },
    }
}

fn absolute(path: &str) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path))
}

fn configuration(arguments: &ArgMatches) -> Result<Config, Box<dyn Error>> {
    let mut layers = Layers::default();
    for setting in &SETTINGS {
        if let Some(value) = arguments.get_one::<String>(setting.key) {
            layers.flags.insert(setting.key.to_owned(), value.clone());
        }
    }
    layers.environment = std::env::vars().filter(|(name, _)| name.starts_with("HOMEROOM_")).collect();
    let named =
        arguments.get_one::<String>("config").cloned().or_else(|| layers.environment.get("HOMEROOM_CONFIG").cloned());
    let file = match named {
        Some(named) => Some(PathBuf::from(named)),
        None => {
            let folder = layers.flags.get("data_dir").or_else(|| layers.environment.get("HOMEROOM_DATA_DIR"));
            let usual = Path::new(folder.map_or("./data", String::as_str)).join("homeroom.toml");
            usual.is_file().then_some(usual)
        }
    };
    if let Some(file) = file {
        let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        layers.file = Some((file, text));
    }
    Ok(layers.read()?)
}

/// The folder's lock: held by a server, or by a command while none runs.
fn lock(config: &Config) -> Result<File, String> {
    let path = config.data_dir.join("homeroom.lock");
    let unlockable = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(unlockable)?;
    if file.try_lock().is_err() {
        let mut holder = String::new();
        // Whoever holds it has written their number.
        let _unread = file.read_to_string(&mut holder);
        return Err(format!(
            "another homeroom (process {}) uses {}; stop it first, or choose another folder with --data-dir",
            holder.trim(),
            config.data_dir.display()
        ));
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| write!(file, "{}", std::process::id()))
        .map_err(unlockable)?;
    Ok(file)
}

async fn migrate(config: &Config) -> ExitCode {
    let _lock = match (&config.database, lock(config)) {
        (Location::Sqlite(_), Err(why)) => return complain(FAILED, &why),
        (_, lock) => lock,
    };
    match Db::open(&config.database).await {
        Ok(db) => {
            db.close().await;
            say("the schema is up to date")
        }
        Err(error) => fail(FAILED, &error),
    }
}

/// Has it done by the server, or here if there is none.
async fn ask(config: &Config, request: Request) -> Result<Answer, Box<dyn Error>> {
    let bar = Bar::default();
    if let Some(answer) = control::ask(&config.data_dir, &request, |progress| bar.show(&progress)).await? {
        return Ok(answer);
    }
    let _lock = match (&config.database, lock(config)) {
        (Location::Sqlite(_), Err(why)) => return Err(why.into()),
        (_, lock) => lock,
    };
    let db = Db::open(&config.database).await?;
    let log = Log::start(&db, Listeners::none());
    let base_url = config.public_url.clone().unwrap_or_else(|| format!("http://{}", config.listen));
    let hands = Hands { db: db.clone(), log, node: None, base_url };
    let answer = control::perform(&hands, request, &|progress| bar.show(&progress)).await;
    db.close().await;
    Ok(answer)
}
