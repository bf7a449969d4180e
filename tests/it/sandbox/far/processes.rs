//! Our own processes in a box on an engine elsewhere, beside commands that would rather be without them.

use patchwright::sandbox::remote::attendant::Attendant;
use patchwright::sandbox::remote::line::Line;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Any program that is started as ours are: it has not become undumpable by itself.
#[tokio::test(flavor = "multi_thread")]
async fn commands_look_into_none_of_them_from_their_first_instruction_on() {
    let Some(far) = Far::get() else { return };
    let Some(backend) = backend(&far.settings()).await else { return };
    let tree = tempfile::tempdir().unwrap();
    let sandbox = backend.open(&Surroundings::of(tree.path())).await.unwrap();
    let marker = marker();
    let line = format!(
        "loader=/.patchwright/ld.so; test -x $loader && test -r /.patchwright/patchwright || exit 9
         head -c 4 $loader && echo READ
         $loader --library-path /.patchwright/lib /usr/bin/sleep {marker} &
         until grep -q ld.so /proc/$!/comm; do :; done
         ls /proc/$!/fd && echo SEEN; echo end"
    );
    let output = sandbox.run(&command(&line)).await.unwrap();
    let said = text(&output);
    assert_eq!(output.ending, Ending::Exited(0), "{said}");
    assert!(said.ends_with("end\n") && !said.contains("READ") && !said.contains("SEEN"), "{said}");
    sandbox.close().await.unwrap();
}

#[tokio::test]
async fn an_answer_that_nobody_awaited_is_not_taken_for_another() {
    let (here, mut there) = tokio::io::duplex(1024);
    let (from, to) = tokio::io::split(here);
    let attendant = Attendant::at(Line::of(from, to));
    let mut question = [0];
    {
        let ask = attendant.ask();
        tokio::pin!(ask);
        tokio::select! {
            biased;
            answer = &mut ask => panic!("{answer:?}"),
            read = there.read_exact(&mut question) => drop(read.unwrap()),
        }
    }
    there.write_all(&[0; 48]).await.unwrap();
    let error = attendant.ask().await.unwrap_err().to_string();
    assert!(error.contains("owes an answer"), "{error}");
    // One that answers is asked again and again.
    let (here, mut there) = tokio::io::duplex(1024);
    let (from, to) = tokio::io::split(here);
    let attendant = Attendant::at(Line::of(from, to));
    for count in [3, 4] {
        let answers = async {
            there.read_exact(&mut question).await.unwrap();
            there.write_all(&[&[count], &[0; 47][..]].concat()).await.unwrap();
        };
        let (status, ()) = tokio::join!(attendant.ask(), answers);
        assert_eq!(status.unwrap().processes, usize::from(count));
    }
}

/// The attendant of the box in which a process of the commands lives.
fn attendant_beside(marker: &str) -> Option<u32> {
    let space = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let inside = space(*alive(marker).first()?)?;
    alive("attend").into_iter().find(|pid| space(*pid).as_ref() == Some(&inside))
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// As the kernel does where nothing else can be ended for memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_box_goes_on_after_the_attendant_was_ended() {
    let Some(far) = Far::get() else { return };
    let Some(backend) = backend(&far.settings()).await else { return };
    let tree = tempfile::tempdir().unwrap();
    let sandbox = backend.open(&Surroundings::of(tree.path())).await.unwrap();
    let marker = marker();
    let line = command(&format!("echo kept > kept; sleep {marker}"));
    let (output, attendant) = tokio::join!(sandbox.run(&line), async {
        until("the command runs beside an attendant", || attendant_beside(&marker).is_some()).await;
        let attendant = attendant_beside(&marker).unwrap();
        kill(attendant);
        attendant
    });
    assert_eq!(output.unwrap().ending, Ending::OutOfMemory);
    assert!(alive(&marker).is_empty());
    let look = command(&format!("cat kept; sleep {marker}"));
    let (output, next) = tokio::join!(sandbox.run(&look), async {
        until("there is another", || attendant_beside(&marker).is_some()).await;
        let next = attendant_beside(&marker).unwrap();
        alive(&marker).into_iter().for_each(kill);
        next
    });
    // The shell says what became of the other.
    assert!(text(&output.unwrap()).starts_with("kept\n"));
    assert_ne!(attendant, next);
    // Between two commands, too.
    kill(next);
    until("it is gone", || !Path::new(&format!("/proc/{next}")).exists()).await;
    assert_eq!(text(&sandbox.run(&command("cat kept")).await.unwrap()), "kept\n");
    sandbox.close().await.unwrap();
}
