//! SELinux labels by the guest's own rules.

use crate::base::{Error, GuestPathBuf, Result};
use crate::command::{Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};
use crate::guest::selinux::{self, Contexts};

const SPECFILE: Param = Param::required("specfile", Kind::Path);
const FORCE: Param = Param::optional("force", Kind::Bool);

const HELP: &str = "SPECFILE is a path in the guest, like /etc/selinux/targeted/contexts/files/file_contexts; its .homedirs, \
    .local and .subs files are read too. A label that is there keeps its user, role and level and gets another type; with \
    `force:true` it is replaced as a whole. Paths that the rules give no label stay as they are.";

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "selinux-relabel",
        aliases: &[],
        summary: "set the SELinux labels of a tree by the guest's rules",
        help: HELP,
        params: &[SPECFILE, Param::required("path", Kind::Path), FORCE],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /rules \"/.* u:r:default_t:s0\\n/d(/.*)? u:r:d_t:s0\\n\"\nmkdir /d\ntouch /d/f\n\
                    selinux-relabel /rules /\ngetxattr /d/f security.selinux | tr '\\0' '\\n'\n",
            output: "u:r:d_t:s0\n",
        }],
        run: |cx, args| relabel(cx, &args.path("specfile"), &[args.path("path")], &[], args.bool("force")),
    },
    Command {
        name: "setfiles",
        aliases: &[],
        summary: "set the SELinux labels of several trees by the guest's rules",
        help: HELP,
        params: &[SPECFILE, Param::required("paths", Kind::List), FORCE, Param::optional("excludes", Kind::List)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /rules \"/.* u:r:default_t:s0\\n\"\nmkdir /d\nsetfiles /rules \"/d\"\n\
                    getxattr /d security.selinux | tr '\\0' '\\n'\n",
            output: "u:r:default_t:s0\n",
        }],
        run: |cx, args| {
            let paths = |name: &str| args.list(name).iter().map(|p| GuestPathBuf(p.clone())).collect::<Vec<_>>();
            relabel(cx, &args.path("specfile"), &paths("paths"), &paths("excludes"), args.bool("force"))
        },
    },
];

fn relabel(
    cx: &mut Context,
    rules: &GuestPathBuf,
    paths: &[GuestPathBuf],
    excludes: &[GuestPathBuf],
    force: bool,
) -> Result<Value> {
    if let Some(bad) = paths.iter().chain(excludes).find(|path| !path.is_absolute()) {
        return Err(Error::usage("path must start with a / character").at(bad));
    }
    let contexts = Contexts::read(&cx.session.guest, rules)?;
    for path in paths {
        let real = cx.session.guest.realpath(path)?;
        let mut wanted = Vec::new();
        cx.session.guest.walk(&real, &mut |entry| {
            let at = if entry.path.is_empty() { real.clone() } else { real.join(&entry.path) };
            if excludes.contains(&at) {
                return Ok(false);
            }
            if let Some(label) = contexts.label(&at, entry.metadata.file_type) {
                wanted.push((at, label));
            }
            Ok(true)
        })?;
        for (at, label) in wanted {
            cx.session.guest.check_interrupt()?;
            let attributes = cx.session.guest.xattrs(&at, false)?;
            let old = attributes.iter().find(|(name, _)| **name == *selinux::ATTRIBUTE).map(|(_, v)| v.as_slice());
            let new = selinux::merged(old, label, force);
            if old != Some(&new[..]) && old != new.strip_suffix(b"\0") {
                cx.session.guest.set_xattr(&at, false, selinux::ATTRIBUTE, Some(&new))?;
            }
        }
    }
    Ok(Value::Nothing)
}
