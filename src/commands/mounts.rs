//! Commands on mounts.

use super::writing::done;
use crate::base::{GuestPathBuf, Result};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};

const MOUNTABLE: Param = Param::required("mountable", Kind::Mountable);
const MOUNTPOINT: Param = Param::required("mountpoint", Kind::Path);

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "mount",
        aliases: &[],
        summary: "mount a file system",
        help: "The first one goes on `/`; others on directories that exist.",
        params: &[MOUNTABLE, MOUNTPOINT],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::EspAndExt4,
            lines: "mkdir-p /boot/efi\nmount /dev/sda1 /boot/efi\nmounts\n",
            output: "/dev/sda2\n/dev/sda1\n",
        }],
        run: |cx, args| mount(cx, args, false),
    },
    Command {
        name: "mount-options",
        aliases: &[],
        summary: "mount a file system with options",
        help: "OPTIONS are words with commas between; `ro` makes the mount read-only, the others have no effect.",
        params: &[Param::required("options", Kind::Text), MOUNTABLE, MOUNTPOINT],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "umount-all\nmount-options noatime /dev/sda1 /\nmountpoints\n",
            output: "/dev/sda1: /\n",
        }],
        run: |cx, args| {
            let read_only = args.text("options").split(',').any(|word| word == "ro");
            mount(cx, args, read_only)
        },
    },
    Command {
        name: "mount-ro",
        aliases: &[],
        summary: "mount a file system read-only",
        help: "",
        params: &[MOUNTABLE, MOUNTPOINT],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "umount /\nmount-ro /dev/sda1 /\n-touch /f\nls /\n",
            output: "lost+found\n",
        }],
        run: |cx, args| mount(cx, args, true),
    },
    Command {
        name: "mountpoints",
        aliases: &[],
        summary: "mounted devices and where they are mounted",
        help: "",
        params: &[],
        returns: Returns::Hash,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::EspAndExt4, lines: "mountpoints\n", output: "/dev/sda2: /\n" }],
        run: |cx, _| {
            let mounts = cx.session.guest.mounts().iter();
            Ok(Value::Hash(mounts.map(|m| (m.device.clone().into_bytes(), m.mountpoint.0.clone())).collect()))
        },
    },
    Command {
        name: "mounts",
        aliases: &[],
        summary: "mounted devices",
        help: "In the order in which they were mounted.",
        params: &[],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::Ext4, lines: "mounts\n", output: "/dev/sda1\n" }],
        run: |cx, _| Ok(Value::list(cx.session.guest.mounts().iter().map(|m| m.device.clone()))),
    },
    Command {
        name: "umount",
        aliases: &["unmount", "umount-opts"],
        summary: "unmount a file system",
        help: "By mount point or device. `force` and `lazyunmount` are read and have no effect: nothing in imgsh keeps a \
               file system busy but another one mounted in it.",
        params: &[
            Param::required("pathordevice", Kind::DeviceOrPath),
            Param::optional("force", Kind::Bool),
            Param::optional("lazyunmount", Kind::Bool),
        ],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example { setup: Setup::Ext4, lines: "umount /\nmounts\n", output: "" }],
        run: |cx, args| {
            let what = args.text("pathordevice");
            done(cx.launched()?.guest.umount(&what))
        },
    },
    Command {
        name: "umount-all",
        aliases: &["unmount-all"],
        summary: "unmount all file systems",
        help: "",
        params: &[],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example { setup: Setup::Ext4, lines: "umount-all\nmounts\n", output: "" }],
        run: |cx, _| done(cx.launched()?.guest.umount_all()),
    },
];

fn mount(cx: &mut Context, args: &Args, read_only: bool) -> Result<Value> {
    let mountpoint: GuestPathBuf = args.path("mountpoint");
    done(cx.launched()?.mount(&args.text("mountable"), &mountpoint, read_only))
}
