//! `reimzul query`: builds by status and target.

use clap::Args;

use super::{Done, Failure, exit, ui};
use crate::history::{Document, Find};
use crate::model::text::plain;
use crate::model::{Status, Target};
use crate::role::Site;

/// List builds by status and target.
///
/// The latest of each source RPM, and those being built; with --all former ones too.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  reimzul query -s Failed
  reimzul query -t mini.x86_64 --json
  reimzul query -s Success -t c9.x86_64 --classic")]
pub struct Query {
    /// Building, Success, Failed, Done or Override
    #[arg(short, long)]
    status: Option<String>,
    /// The target, with its arch: mini.x86_64
    #[arg(short, long)]
    target: Option<String>,
    /// The newest so many
    #[arg(short = 'n', long, default_value_t = 50)]
    limit: u32,
    /// Former builds too
    #[arg(long)]
    all: bool,
    /// Print what the old reimzul_query printed
    #[arg(long)]
    classic: bool,
}

impl Query {
    pub async fn run(self, site: &Site, as_json: bool) -> Done {
        let usage = |error: &dyn std::error::Error| Failure::Usage(error.to_string());
        let status =
            self.status.as_deref().map(str::parse::<Status>).transpose().map_err(|error| usage(&error))?;
        let target =
            self.target.as_deref().map(str::parse::<Target>).transpose().map_err(|error| usage(&error))?;
        let all = self.all || status == Some(Status::Done);
        let find = Find { status, target, build_id: None, all, limit: self.limit };
        let found = site.history.find(find).await?;
        if as_json {
            ui::print_json(&found);
        } else if self.classic {
            for document in &found {
                ui::say!("{}", plain(&classic(document)));
            }
        } else if found.is_empty() {
            ui::say!("no such builds");
        } else {
            print(&found);
        }
        Ok(exit::OK)
    }
}

fn print(found: &[Document]) {
    let mut table = ui::table(&["status", "package", "target", "submitted (UTC)", "why"]);
    for document in found {
        let event = &document.event;
        let why = match (&event.failure, &document.comment) {
            (_, Some(comment)) => plain(comment),
            (Some(failure), None) => failure.class.to_string(),
            (None, None) if event.scratch => "scratch".to_owned(),
            (None, None) => String::new(),
        };
        table.add_row([
            ui::status(event.status),
            format!("{}-{}.{}", event.pkgname, event.evr, event.arch).into(),
            (&event.target).into(),
            ui::time(event.timestamp).into(),
            why.into(),
        ]);
    }
    ui::print(&table);
}

/// The old command's line. Its two blanks after the timestamp are meant: scripts split at them.
fn classic(document: &Document) -> String {
    let event = &document.event;
    let head = format!(
        "{} (arch: {}, status: {}, timestamp: {},",
        event.srpm, event.arch, event.status, event.timestamp
    );
    match event.status {
        Status::Override => {
            format!(
                "{head} target: {}, comment: {})",
                event.target,
                document.comment.as_deref().unwrap_or_default()
            )
        }
        _ => format!("{head}  builder: {})", event.builder_fqdn),
    }
}
