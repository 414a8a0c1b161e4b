//! `moon uninstall`: takes the bridge out of OpenClaw again, and the service away.

use super::output::Report;
use super::service::About;
use super::{Context, install, runtime, service};
use crate::adapters::openclaw::install::Installer;
use moon_actors::Result;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Say what would be changed and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Take the bridge out and leave the service alone
    #[arg(long)]
    pub no_service: bool,
}

pub(super) fn run(ctx: &Context, args: &Args) -> Result<Report> {
    let installer = Installer::new(ctx.home.root(), &ctx.settings().openclaw);
    let undone = runtime::block_on(installer.uninstall(args.dry_run))??;
    let mut report = Report::new("uninstall");
    let service = match args.no_service {
        true => None,
        false => Some(runtime::block_on(service::uninstall(ctx, &About::default(), args.dry_run))?),
    };
    install::describe(&mut report, &undone, args.dry_run);
    if undone.changes_something() && !args.dry_run {
        install::ask_to_restart(&mut report, &ctx.home);
    }
    if let Some(service) = service {
        install::also_service(&mut report, service);
    }
    report.detail("archives, memory and index stay where they are");
    Ok(report)
}
