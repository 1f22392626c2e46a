//! From the command line to an exit code.

use crate::{
    ask::{self, Given},
    backend::{self, Conn},
    cli::{Cli, Command, Durable, Format, Global, ProjectionCommand, ShellArgs, TokenCommand, ViewArgs},
    commands::{admin, events, explain, export, look, projections, serve, time, token, why, write},
    demo, diagnose,
    fail::{Exit, Failure, Outcome},
    import, moment,
    session::{Access, Mode, Moment, Session, acknowledge, open, read_edn, read_text, reserve},
    shell::{prompt, stream},
    term::Screen,
};
use annals::diagnostic::nearest;
use clap::{CommandFactory as _, Parser as _, error::ErrorKind};
use std::{
    io::{self, BufRead, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Parses the arguments of the process, runs, and gives the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return ExitCode::from(usage(&e)),
    };
    let err = Screen::stderr(cli.global.color);
    match run(cli) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(f) => {
            if !f.closed_pipe {
                // Standard error may be gone too; the exit code still tells.
                let _ = io::stderr().lock().write_all(diagnose::failure(&f, &err).as_bytes());
            }
            ExitCode::from(f.exit as u8)
        }
    }
}

/// Help and version are answers; what clap refuses is a usage error.
fn usage(e: &clap::Error) -> u8 {
    let text = e.render();
    match e.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let shown = if io::stdout().is_terminal() { text.ansi().to_string() } else { text.to_string() };
            // `annals --help | head -3` is no failure.
            let _ = io::stdout().lock().write_all(shown.as_bytes());
            Exit::Ok as u8
        }
        _ => {
            let color = Screen::stderr(crate::cli::When::Auto).color;
            let shown = if color { text.ansi().to_string() } else { text.to_string() };
            let _ = io::stderr().lock().write_all(shown.as_bytes());
            Exit::Usage as u8
        }
    }
}

fn run(cli: Cli) -> Outcome<Exit> {
    let g = cli.global;
    acknowledge(match g.durability {
        Durable::Full => annals::Durability::Full,
        Durable::Relaxed => annals::Durability::Relaxed,
    });
    if let Some(bytes) = g.map_size {
        reserve(bytes);
    }
    let Some(command) = cli.command else { return shell(cli.db.as_deref(), &cli.shell, &g) };
    match command {
        Command::Demo { db, no_pause } => demo::run(db.as_deref(), no_pause, &g)?,
        Command::Transact { db, file } => {
            let s = session(&db, Access::Create, &g)?;
            let (input, name) = input(&file)?;
            write::transact_stream(&s, input, &name)?;
        }
        Command::Query { db, query, inputs, rules, view, limit_rows, timeout_ms, explain, plan } => {
            let mut s = session(&db, Access::Read, &g)?;
            s.moment = at(&view)?;
            let (text, _) = argument(&query)?;
            let mut given = given(&inputs, rules.as_deref(), timeout_ms, limit_rows)?;
            given.watched = s.progress_screen().cloned();
            if plan {
                explain::show_plan(&s, &ask::plan(&text, &s.db()?, &given)?)?;
            } else if explain {
                explain::show_explained(&s, &text, &given)?;
            } else {
                let answered = ask::ask(&text, &s.db()?, &given)?;
                s.answer(answered.rows)?;
            }
        }
        Command::Pull { db, pattern, entity, view } => {
            let mut s = session(&db, Access::Read, &g)?;
            s.moment = at(&view)?;
            look::pull(&mut s, &argument(&pattern)?.0, &entity)?;
        }
        Command::Diff { db, query, t1, t2, inputs } => {
            let mut s = session(&db, Access::Read, &g)?;
            s.values = given(&inputs, None, None, None)?.values;
            time::diff(&mut s, &argument(&query)?.0, &t1, &t2)?;
        }
        Command::Log { db, from, to } => {
            let s = session(&db, Access::Read, &g)?;
            let db = s.conn.db()?;
            let point = |text: &str| db.t_of(moment::parse(text)?);
            let from = from.as_deref().map(point).transpose()?.unwrap_or(annals::T(1));
            let to = match to.as_deref() {
                Some("now") | None => db.t().next(),
                Some(text) => match moment::parse(text)? {
                    annals::TimePoint::T(t) => t.min(db.t().next()),
                    p @ annals::TimePoint::Instant(_) => db.t_of(p)?.next(),
                },
            };
            time::log(&s, from, to)?;
        }
        Command::History { db, entity, attr } => {
            let mut s = session(&db, Access::Read, &g)?;
            let db = s.conn.db()?;
            let e = crate::commands::entity(&db, &entity)
                .or_else(|f| crate::commands::entity(&db.history(), &entity).map_err(|_| f))?;
            time::history(&mut s, e, attr.as_deref())?;
        }
        Command::Why { db, entity, attr, value } => {
            let mut s = session(&db, Access::Read, &g)?;
            let e = crate::commands::entity(&s.conn.db()?, &entity)?;
            why::why(&mut s, e, &attr, value.as_deref())?;
        }
        Command::Append { db, stream, file, expect } => {
            let expected = events::expected(&expect)?;
            let s = session(&db, Access::Create, &g)?;
            let (input, name) = input(&file)?;
            events::append_stream(&s, &stream, input, &name, expected)?;
        }
        Command::Import { db, what } => {
            // What is wrong with the source is found before a database is made for it.
            import::check(&what)?;
            let mut s = session(&db, Access::Create, &g)?;
            import::run(&mut s, &what)?;
        }
        Command::Export { db, history, view, output } => {
            let s = session(&db, Access::Read, &g)?;
            export::run(&s, g.format, history, view.as_of.as_deref(), output.as_deref())?;
        }
        Command::Stats { db } => look::stats(&mut session(&db, Access::Read, &g)?)?,
        Command::Schema { db, all } => look::schema(&mut session(&db, Access::Read, &g)?, all, None)?,
        Command::Projection { db, what } => match what {
            ProjectionCommand::List => projections::list(&mut session(&db, Access::Read, &g)?)?,
            ProjectionCommand::Add { file } => {
                projections::read(&file)?;
                projections::add(&session(&db, Access::Create, &g)?, &file)?;
            }
            ProjectionCommand::Preview { file } => {
                projections::preview(&mut session(&db, Access::Read, &g)?, &file)?;
            }
            ProjectionCommand::Skip { name, position, why } => {
                projections::skip(&session(&db, Access::Write, &g)?, &name, &position, &why)?;
            }
            ProjectionCommand::Parked { name } => {
                projections::steer(&mut session(&db, Access::Read, &g)?, "parked", &name)?;
            }
            ProjectionCommand::Skipped { name } => {
                projections::steer(&mut session(&db, Access::Read, &g)?, "skipped", &name)?;
            }
            ProjectionCommand::Rebuild { name } => steer(&db, "rebuild", &name, &g)?,
            ProjectionCommand::Drop { name } => steer(&db, "drop", &name, &g)?,
            ProjectionCommand::Pause { name } => steer(&db, "pause", &name, &g)?,
            ProjectionCommand::Resume { name } => steer(&db, "resume", &name, &g)?,
            ProjectionCommand::Replay { name } => steer(&db, "replay", &name, &g)?,
        },
        Command::Verify { db } => return admin::verify_files(&db, &g),
        Command::Rebuild { db } => admin::rebuild(&db, &g)?,
        Command::Backup { db, dir } => admin::backup(&session(&db, Access::Read, &g)?, &dir)?,
        Command::Restore { dir, db, to } => admin::restore(&dir, &db, to, &g)?,
        Command::Compact { db } => admin::compact(&db, &g)?,
        Command::Serve {
            dbs,
            listen,
            token_file,
            config,
            tls_cert,
            tls_key,
            behind_proxy,
            read_only,
            show_config,
            probe,
        } => {
            let flags =
                serve::Flags { listen, token_file, config, tls_cert, tls_key, behind_proxy, read_only };
            match (show_config, probe) {
                (true, _) => serve::show_config(&flags)?,
                (_, true) => serve::probe(&flags)?,
                _ => serve::run(&dbs, &flags)?,
            }
        }
        Command::Token { what } => match what {
            TokenCommand::Create { name, role, dbs, days, token_file } => {
                token::create(&name, &role, &dbs, days, &token_file)?;
            }
            TokenCommand::List { token_file } => token::list(&token_file, &g)?,
            TokenCommand::Revoke { token, token_file } => token::revoke(&token, &token_file)?,
        },
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "annals", &mut script);
            io::stdout().lock().write_all(&script)?;
        }
        Command::Man { dir } => man(&dir, &g)?,
    }
    Ok(Exit::Ok)
}

/// Does something to a projection that writes.
fn steer(db: &Path, verb: &str, name: &str, g: &Global) -> Outcome {
    projections::steer(&mut session(db, Access::Write, g)?, verb, name)
}

/// A session for one command.
pub fn session(db: &Path, access: Access, g: &Global) -> Outcome<Session> {
    let (conn, path) = conn_to(&db.to_string_lossy(), access)?;
    let mut s = Session::new(conn, path, Screen::stdout(g.color), Screen::stderr(g.color));
    dress(&mut s, g);
    s.read_only = access == Access::Read;
    Ok(s)
}

/// Opens a folder, or connects to a server; with the folder.
pub fn conn_to(db: &str, access: Access) -> Outcome<(Conn, Option<PathBuf>)> {
    if backend::is_url(db) {
        return Ok((backend::connect(db)?, None));
    }
    if let Some((scheme, _)) = db.split_once("://") {
        return Err(Failure::usage(format!("{scheme} is no way to reach a database"))
            .help("a folder, or the address of one on a server: http://127.0.0.1:7407/v1/db/orders"));
    }
    let path = PathBuf::from(db);
    Ok((open(&path, access)?.into(), Some(path)))
}

/// Applies the global flags.
pub fn dress(s: &mut Session, g: &Global) {
    if let Some(f) = g.format {
        s.mode = if f == Format::Table { Mode::Table } else { Mode::Data(f) };
    }
    s.quiet = g.quiet;
}

fn at(v: &ViewArgs) -> Outcome<Moment> {
    Ok(Moment {
        as_of: v.as_of.as_deref().map(moment::parse).transpose()?,
        since: v.since.as_deref().map(moment::parse).transpose()?,
        history: v.history,
    })
}

/// An argument, or with `@` the file that holds it; and what to call it in errors.
fn argument(text: &str) -> Outcome<(String, String)> {
    match text.strip_prefix('@') {
        Some(file) => Ok((read_text(file)?, file.to_owned())),
        None => Ok((text.to_owned(), "query".to_owned())),
    }
}

fn given(
    inputs: &[String],
    rules: Option<&Path>,
    timeout_ms: Option<u64>,
    limit_rows: Option<u64>,
) -> Outcome<Given> {
    let mut g = Given { timeout_ms, limit_rows, ..Given::default() };
    for text in inputs {
        g.values.push_back(read_edn(text, "--in")?);
    }
    if let Some(file) = rules {
        let name = file.display().to_string();
        g.rules = ask::read_rules(&read_text(&name)?, &name)?;
    }
    Ok(g)
}

/// A file to read, `-` for standard input; with its name.
fn input(file: &str) -> Outcome<(Box<dyn BufRead>, String)> {
    if file == "-" {
        return Ok((Box::new(io::stdin().lock()), "standard input".to_owned()));
    }
    let f = std::fs::File::open(file).map_err(|e| Failure::file(Path::new(file), &e))?;
    Ok((Box::new(io::BufReader::new(f)), file.to_owned()))
}

fn shell(db: Option<&str>, args: &ShellArgs, g: &Global) -> Outcome<Exit> {
    let (conn, path) = match db {
        None => (annals::in_memory()?.into(), None),
        Some(name) => {
            not_a_slip(name)?;
            conn_to(name, if args.read_only { Access::Read } else { Access::Create })?
        }
    };
    let mut s = Session::new(conn, path, Screen::stdout(g.color), Screen::stderr(g.color));
    dress(&mut s, g);
    s.read_only = args.read_only;
    s.settings.bail = args.bail;
    s.echo = args.echo;
    let interactive = io::stdin().is_terminal() && args.run.is_empty();
    if interactive && !args.no_rc {
        run_rc(&mut s);
    }
    if !args.run.is_empty() {
        let mut exit = Exit::Ok;
        for text in &args.run {
            let one = stream::run(&mut s, text.as_bytes(), "-c")?;
            exit = if exit == Exit::Ok { one } else { exit };
            if exit != Exit::Ok && args.bail {
                break;
            }
        }
        return Ok(exit);
    }
    if interactive {
        return prompt::run(&mut s).map(|()| Exit::Ok);
    }
    stream::run(&mut s, io::stdin().lock(), "standard input")
}

/// `annals qurey` is a slip of the fingers, not a new database.
fn not_a_slip(name: &str) -> Outcome {
    if Path::new(name).exists() || name.contains(['/', '\\', '.']) {
        return Ok(());
    }
    let command = Cli::command();
    let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    match nearest(name, names) {
        Some(near) => Err(Failure::usage(format!("there is no command and no database called {name}"))
            .help(format!("did you mean `annals {near}`? To make a database of that name: annals ./{name}"))),
        None => Ok(()),
    }
}

/// `~/.config/annals/rc`: forms and commands run before the first prompt.
fn run_rc(s: &mut Session) {
    let dir = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".config")));
    let Some(file) = dir.map(|d| d.join("annals/rc")) else { return };
    let Ok(f) = std::fs::File::open(&file) else { return };
    if let Err(f) = stream::run(s, io::BufReader::new(f), &file.display().to_string()) {
        prompt::complain(s, &f);
    }
}

/// Man pages: one for `annals`, one for every command.
fn man(dir: &Path, g: &Global) -> Outcome {
    std::fs::create_dir_all(dir).map_err(|e| Failure::file(dir, &e))?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(|e| Failure::file(dir, &e))?;
    if !g.quiet {
        eprintln!("man pages written to {}", dir.display());
    }
    Ok(())
}
