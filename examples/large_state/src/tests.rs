use crate::{application::Application, files::Files, handle::Handle, transfer};
use std::{
    fs,
    io::Write,
    net::{TcpListener, TcpStream},
};

fn application() -> (tempfile::TempDir, Application) {
    let folder = tempfile::tempdir().unwrap();
    let mut application = Application::start(1, folder.path()).unwrap();
    (application.applied_idx, application.state) = (2, b"one\ntwo\n".to_vec());
    (folder, application)
}

#[test]
fn an_idle_client_keeps_no_other_from_the_state() {
    let (_folder, application) = application();
    let saved = application.save().unwrap();
    let idle: Vec<TcpStream> =
        (0..5).map(|_| TcpStream::connect(application.address).unwrap()).collect();
    // This one sends more than any request has.
    let mut wordy = TcpStream::connect(application.address).unwrap();
    wordy.write_all(&[b'9'; 1000]).unwrap();
    assert_eq!(transfer::ask_for_last(application.address, 1).unwrap(), saved);
    assert_eq!(transfer::fetch(application.address, &saved).unwrap(), application.state);
    drop(idle);
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    transfer::ask_for_last(address, 1).unwrap_err();
    transfer::fetch(address, &Handle::of(1, 2, b"state")).unwrap_err();
}

#[test]
fn a_server_that_was_restarted_serves_its_last_state() {
    let (folder, application) = application();
    let saved = application.save().unwrap();
    let restarted = Application::start(1, folder.path()).unwrap();
    assert_eq!(transfer::ask_for_last(restarted.address, 1).unwrap(), saved);
}

#[test]
fn all_failures_are_named() {
    let (_folder, application) = application();
    let none = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let addresses = [(1, application.address), (7, none)].into();
    let missing = Handle::of(7, 3, b"state");
    let error = format!("{:#}", application.find(&missing, &addresses).unwrap_err());
    assert!(error.contains("server 7: ") && error.contains("server 1: "), "{error}");
}

/// As after a crash, or on a full disk.
#[test]
fn a_state_that_was_not_written_to_the_end_replaces_none() {
    let folder = tempfile::tempdir().unwrap();
    let files = Files::open(folder.path()).unwrap();
    files.write(2, b"one\ntwo\n").unwrap();
    // Nothing can be written here.
    fs::create_dir(folder.path().join("part")).unwrap();
    files.write(2, b"one\n").unwrap_err();
    files.write(3, b"one\ntwo\nthree\n").unwrap_err();
    let last = files.last(1).unwrap().unwrap();
    assert_eq!(last, Handle::of(1, 2, b"one\ntwo\n"));
    assert_eq!(files.read(&last).unwrap(), b"one\ntwo\n");
    files.remove_before(3).unwrap();
    assert_eq!(files.last(1).unwrap(), None);
}

/// Another server has a state of the same index, which is damaged.
#[test]
fn a_damaged_state_is_not_taken_for_the_one_that_is_named() {
    let (_folder, application) = application();
    let saved = application.save().unwrap();
    let other = tempfile::tempdir().unwrap();
    Files::open(other.path()).unwrap().write(saved.idx, b"one\n").unwrap();
    let other = Application::start(2, other.path()).unwrap();
    let third = Application::start(3, tempfile::tempdir().unwrap().path()).unwrap();
    let addresses = [(2, other.address)].into();
    third.find(&saved, &addresses).unwrap_err();
    let addresses = [(2, other.address), (1, application.address)].into();
    assert_eq!(third.find(&saved, &addresses).unwrap(), (saved, application.state));
}
