//! `train --live` on a terminal of its own: frames, keys, and the terminal as it was.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, ExitStatus};
use std::thread::{self, JoinHandle};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::*;

const ENTER: &str = "\u{1b}[?1049h";
const LEAVE: &str = "\u{1b}[?1049l";

/// A run whose terminal is ours.
struct OnTerminal {
    controller: File,
    /// Its other end, which stays open so that what was written is there to be read, and the modes can be asked for.
    terminal: File,
    child: Child,
}

impl OnTerminal {
    fn start(folder: &Path, args: &[&str]) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&controller).expect("a terminal");
        unlockpt(&controller).expect("a terminal");
        let name = ptsname(&controller, Vec::new()).expect("its name");
        let options = File::options().read(true).write(true).open(OsStr::from_bytes(name.as_bytes()));
        let terminal = options.expect("the terminal opens");
        tcsetwinsize(&terminal, Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 }).expect("a size");
        let end = || Stdio::from(terminal.try_clone().expect("a handle"));
        let child = command(folder, args).env("TERM", "xterm").stdin(end()).stdout(end()).stderr(end()).spawn();
        Self { controller: controller.into(), terminal, child: child.expect("the binary runs") }
    }

    /// Reads until `text` was written.
    fn read_until(&mut self, text: &str) -> String {
        let (mut all, mut piece) = (Vec::new(), [0; 4096]);
        while !String::from_utf8_lossy(&all).contains(text) {
            let count = self.controller.read(&mut piece).expect("the terminal can be read");
            all.extend_from_slice(&piece[..count]);
        }
        String::from_utf8_lossy(&all).into_owned()
    }

    fn press(&mut self, keys: &str) {
        self.controller.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Waits for the end, and gives what was written until then. The terminal must be as it was.
    fn end(mut self) -> (ExitStatus, String) {
        let Self { controller, terminal, child } = &mut self;
        let mut reader = controller.try_clone().expect("a handle");
        let reading: JoinHandle<String> = thread::spawn(move || {
            let (mut all, mut piece) = (Vec::new(), [0; 4096]);
            while !all.ends_with(b"the end") {
                let count = reader.read(&mut piece).expect("the terminal can be read");
                all.extend_from_slice(&piece[..count]);
            }
            String::from_utf8_lossy(&all).into_owned()
        });
        let status = child.wait().expect("a child");
        terminal.write_all(b"the end").expect("the terminal can be written");
        let written = reading.join().expect("what was written");
        let modes = tcgetattr(&*terminal).expect("modes").local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG), "{modes:?}\n{written}");
        (status, written)
    }
}

/// What stands on the usual screen after the view is gone.
fn after_the_view(written: &str) -> &str {
    let (_, after) = written.rsplit_once(LEAVE).unwrap_or_else(|| panic!("the view stays: {written}"));
    assert!(!after.contains(ENTER), "{written}");
    after
}

#[test]
fn curves_are_drawn_and_change_no_bit() {
    let folder = temporary();
    let at = folder.path();
    let few = ["--set", "train.steps=6", "--set", "train.eval_every=3"];
    let run = OnTerminal::start(at, &tiny(&["train", "--live", "--out", "live"], &few));
    let (status, written) = run.end();
    assert_eq!(status.code(), Some(0), "{written}");
    for part in [ENTER, "learning", "gradient", "speed", "Ctrl-C"] {
        assert!(written.contains(part), "{part} in {written}");
    }
    // What was said meanwhile is there afterwards.
    let after = after_the_view(&written);
    for part in ["--- sample at step 0 ---", "step      3 | validation loss", "6 steps, train loss"] {
        assert!(after.contains(part), "{part} in {after}");
    }
    // Without a terminal the option is told to be of no use; the run is the same.
    let plain = samara(at, &tiny(&["train", "--live", "--out", "plain"], &few));
    assert_eq!(plain.status.code(), Some(0));
    let said = text(&plain.stderr);
    assert!(said.contains("note: --live needs standard error to be a terminal") && !said.contains('\u{1b}'), "{said}");
    assert_eq!(
        fs::read(at.join("live/model.safetensors")).expect("weights"),
        fs::read(at.join("plain/model.safetensors")).expect("weights")
    );
    refused(at, &tiny(&["train", "--live", "--quiet"], &few), 2, &["--live draws curves and --quiet prints results only"]);
}

#[test]
fn keys_and_signals_stop_and_save() {
    let folder = temporary();
    let at = folder.path();
    let endless = ["--set", "train.steps=1000000", "--set", "train.eval_every=0", "--set", "train.checkpoint_every=0"];
    for (name, keys) in [("q", "q"), ("ctrl-c", "\u{3}"), ("twice", "qq"), ("term", "")] {
        let mut run = OnTerminal::start(at, &tiny(&["train", "--live", "--out", name], &endless));
        run.read_until("grad_norm ");
        if keys.is_empty() {
            let id = run.child.id().to_string();
            assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill").success());
        } else {
            run.press(keys);
        }
        let (status, written) = run.end();
        assert_eq!(status.code(), Some(if keys.is_empty() { 143 } else { 130 }), "{name}: {written}");
        assert!(after_the_view(&written).contains("stopping after the current batch"), "{name}: {written}");
        if name != "twice" {
            assert!(at.join(name).join("model.safetensors").is_file(), "{name}: {written}");
        }
    }
    // What was drawn before is drawn again.
    let mut run = OnTerminal::start(at, &["train", "--live", "--resume", "--out", "q"]);
    run.read_until("train_loss ");
    run.press("q");
    assert_eq!(run.end().0.code(), Some(130));
}

#[test]
fn an_error_is_read_on_the_usual_screen() {
    let folder = temporary();
    let diverging =
        ["--set", "train.lr=1000", "--set", "train.warmup_steps=0", "--set", "train.grad_clip=0", "--set", "train.steps=1000"];
    let args = tiny(&["train", "--live", "--out", "run", "--set", "train.optimizer=sgd"], &diverging);
    let (status, written) = OnTerminal::start(folder.path(), &args).end();
    assert_eq!(status.code(), Some(5), "{written}");
    assert!(after_the_view(&written).contains("error: training diverged"), "{written}");
}
