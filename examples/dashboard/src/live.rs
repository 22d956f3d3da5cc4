//! The dashboard in the terminal.

use crate::{
    board::{Board, Presence},
    cluster::{Cluster, POLL},
    links::Link,
    members::Part,
    view::View,
    End,
};
use anyhow::{bail, Result};
use omnipaxos::util::NodeId;
use omnipaxos_ui::{
    ratatui::crossterm::event::{KeyCode, KeyEvent},
    screen::{is_interrupt, Screen},
};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// What the user looks at.
struct Focus {
    selected: NodeId,
    is_close: bool,
    /// What each server is given while appends are on.
    appends: u64,
}

impl Focus {
    /// Selects another server if the selected one is there no longer: the one before it, or the first.
    fn stay_within(&mut self, board: &Board) {
        let servers = board.servers();
        if !servers.contains_key(&self.selected) {
            let before = servers.range(..self.selected).next_back();
            if let Some((pid, _)) = before.or(servers.iter().next()) {
                (self.selected, self.is_close) = (*pid, false);
            }
        }
    }
}

/// What comes after a key.
enum Next {
    Frame,
    End(End),
}

/// Shows the cluster and obeys keys, until one of them ends it.
pub(crate) async fn run(cluster: &mut Cluster, panic_after: Option<Duration>) -> Result<End> {
    let mut screen = Screen::take()?;
    let mut focus = Focus { selected: 1, is_close: false, appends: cluster.appends() };
    let started = Instant::now();
    loop {
        cluster.hear().await?;
        focus.stay_within(cluster.board());
        if !screen.is_taken() {
            bail!("a part of the dashboard has panicked");
        }
        let view =
            View { board: cluster.board(), selected: focus.selected, is_close: focus.is_close };
        screen.draw(|frame| frame.render_widget(view, frame.area()))?;
        assert!(panic_after.is_none_or(|after| started.elapsed() < after), "as you wished");
        while let Some(key) = screen.next_key()? {
            match heed(key, &mut focus, cluster).await? {
                Next::Frame => {}
                Next::End(end) => return Ok(end),
            }
        }
        sleep(POLL).await;
    }
}

async fn heed(key: KeyEvent, focus: &mut Focus, cluster: &mut Cluster) -> Result<Next> {
    if is_interrupt(&key) {
        return Ok(Next::End(End::Interrupted));
    }
    // The key before this one may have removed it.
    focus.stay_within(cluster.board());
    let selected = focus.selected;
    let others = |is_next: &dyn Fn(NodeId) -> bool| {
        cluster.board().servers().keys().copied().filter(|pid| is_next(*pid)).collect::<Vec<_>>()
    };
    match key.code {
        KeyCode::Char('q') => return Ok(Next::End(End::Done)),
        KeyCode::Esc if focus.is_close => focus.is_close = false,
        KeyCode::Esc => return Ok(Next::End(End::Done)),
        KeyCode::Enter => focus.is_close = !focus.is_close,
        KeyCode::Up => {
            focus.selected = others(&|pid| pid < selected).last().copied().unwrap_or(selected);
        }
        KeyCode::Down => {
            focus.selected = others(&|pid| pid > selected).first().copied().unwrap_or(selected);
        }
        KeyCode::Char('i') => cluster.isolate(selected),
        KeyCode::Char('h') => cluster.heal_all(),
        KeyCode::Char('k') if cluster.board().presence(selected) != Presence::Killed => {
            cluster.kill(selected).await?;
        }
        KeyCode::Char('r') if cluster.board().presence(selected) == Presence::Killed => {
            cluster.restart(selected);
        }
        KeyCode::Char('n') => cluster.add(None)?,
        KeyCode::Char('d') => cluster.remove(selected),
        KeyCode::Char('p') if cluster.board().members().part(selected) == Part::Member => {
            cluster.add(Some(selected))?;
        }
        KeyCode::Char('a') => {
            let appends = if cluster.appends() == 0 { focus.appends } else { 0 };
            cluster.set_appends(appends);
        }
        KeyCode::Char(digit) => toggle_link(selected, digit, cluster),
        _ => {}
    }
    Ok(Next::Frame)
}

/// Cuts or heals the link between the selected server and the server that the key names.
fn toggle_link(selected: NodeId, digit: char, cluster: &mut Cluster) {
    let other = digit.to_digit(10).map(NodeId::from).filter(|pid| *pid != selected);
    let Some(other) = other.filter(|pid| cluster.board().servers().contains_key(pid)) else {
        return;
    };
    let link = Link::between(selected, other);
    if cluster.board().cut().contains(&link) {
        cluster.heal(link);
    } else {
        cluster.cut(link);
    }
}
