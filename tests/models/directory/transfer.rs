//! How a partition moves: the new owner asks the old one to seal and hand over, or all members what they host.

use super::{
    Event, Happens, State,
    rules::Rules,
    state::{Answer, Asks, Directory, Entry, GRAINS, Handed, Life, NODES, NodeNumber, Serves, ViewNumber},
};

impl State {
    /// `node` owns the partition by the view it has just applied, and begins to ask for the entries. `before` is the view it
    /// had applied before, 0 if none.
    pub(super) fn acquire(&mut self, rules: &Rules, node: NodeNumber, before: ViewNumber) {
        let view = *self.view_of(node);
        let epoch = view.epoch;
        self.node_mut(node).directory = Directory { serves: Serves::Acquiring, epoch, ..Directory::default() };
        // The broken rule 4 takes the owner of the view it happens to have seen last.
        let from = if rules.exact_predecessor || before == 0 { epoch - 1 } else { before };
        if from == 0 {
            // Nobody owned it before. Only a node that sealed its epoch too early gets here.
            self.acquisition_mut(epoch).asks = Asks::All;
            return;
        }
        let predecessor = self.view(from).owner;
        let incarnation = self.view(from).incarnation(predecessor);
        let there = predecessor != node && incarnation != 0 && view.incarnation(predecessor) == incarnation;
        self.acquisition_mut(epoch).asks = if there { Asks::Predecessor(predecessor) } else { Asks::All };
    }
}

impl Happens<'_> {
    pub(super) fn transfers(&mut self, node: NodeNumber) {
        for epoch in 1..=self.state.last_view {
            let asks = self.state.acquisition(epoch).asks;
            if asks.predecessor() == Some(node) {
                self.answer_seal(node, epoch);
            }
            if asks.everyone() {
                self.answer_recovery(node, epoch);
            }
        }
        if self.state.node(node).directory.serves == Serves::Acquiring {
            self.acquires(node);
        }
    }

    fn answer_seal(&mut self, node: NodeNumber, epoch: ViewNumber) {
        let state = self.state;
        let asked = state.node(node);
        let meant = state.view(epoch).incarnation(node) == asked.incarnation;
        let applied = asked.view >= epoch || !self.rules.seal_after_applying;
        if !meant || !applied || state.acquisition(epoch).handed != Handed::Nothing {
            return;
        }
        let directory = asked.directory;
        let served = matches!(directory.serves, Serves::Serving | Serves::Sealed);
        let hands_over = if self.rules.exact_predecessor {
            served && directory.epoch == state.view(epoch - 1).epoch
        } else {
            served && directory.epoch < epoch
        };
        // The broken rule 4 takes the word of a node that has no entries for a hand-over of none.
        let none_will_do = !self.rules.exact_predecessor && directory.serves == Serves::No;
        if !self.rules.exact_predecessor && !hands_over && !none_will_do {
            return;
        }
        self.progress(Event::AnswersSeal { node, epoch, hands_over }, |next| {
            let directory = &mut next.node_mut(node).directory;
            if hands_over {
                directory.serves = Serves::Sealed;
            } else if directory.epoch < epoch && directory.serves != Serves::Sealed {
                directory.serves = Serves::No;
            }
            next.acquisition_mut(epoch).handed = if hands_over {
                Handed::Entries(directory.entries)
            } else if none_will_do {
                Handed::Entries(Default::default())
            } else {
                Handed::NotServing
            };
        });
    }

    fn answer_recovery(&mut self, node: NodeNumber, epoch: ViewNumber) {
        let state = self.state;
        let asked = state.node(node);
        let applied = asked.view >= epoch || !self.rules.answer_after_applying;
        let answered = state.acquisition(epoch).answers[usize::from(node)].incarnation == asked.incarnation;
        if !applied || answered {
            return;
        }
        let mut hosts = [Entry::default(); GRAINS];
        for (hosted, reported) in asked.hosted.iter().zip(&mut hosts) {
            let left_out = match hosted.life {
                Life::Starting => !self.rules.report_starting,
                Life::Frozen => !self.rules.report_frozen,
                _ => false,
            };
            if !left_out {
                *reported = Entry { activation: hosted.order, target: hosted.target };
            }
        }
        let fences = self.rules.fence_on_answering;
        self.progress(Event::AnswersRecovery { node, epoch }, |next| {
            let answer = Answer { incarnation: next.node(node).incarnation, hosts };
            next.acquisition_mut(epoch).answers[usize::from(node)] = answer;
            if fences {
                let asked = next.node_mut(node);
                asked.fence = asked.fence.max(epoch);
            }
        });
    }

    fn acquires(&mut self, node: NodeNumber) {
        let state = self.state;
        let epoch = state.node(node).directory.epoch;
        let acquisition = state.acquisition(epoch);
        if let Handed::Entries(entries) = acquisition.handed {
            self.progress(Event::ServesByHandOver { node, epoch }, |next| next.serve(node, entries));
        }
        if let Asks::Predecessor(predecessor) = acquisition.asks
            && self.no_hand_over_comes(node, predecessor, epoch)
        {
            self.progress(Event::AsksAll { node, epoch }, |next| {
                next.acquisition_mut(epoch).asks = Asks::AllAfter(predecessor);
            });
        }
        if acquisition.asks.everyone() && self.all_have_answered(node, epoch) {
            let entries = self.recovered(node, epoch);
            self.progress(Event::ServesAfterRecovery { node, epoch }, |next| next.serve(node, entries));
        }
    }

    fn no_hand_over_comes(&self, node: NodeNumber, predecessor: NodeNumber, epoch: ViewNumber) -> bool {
        let state = self.state;
        let view = state.view_of(node);
        let asked = if self.rules.exact_predecessor { state.view(epoch - 1).incarnation(predecessor) } else { 0 };
        let there = view.incarnation(predecessor);
        let gone = if self.rules.exact_predecessor { there != asked } else { there == 0 };
        let refused = state.acquisition(epoch).handed == Handed::NotServing;
        (refused && self.rules.not_serving_asks_all) || (gone && self.rules.gone_predecessor_asks_all)
    }

    /// Whether there is an answer from every member of the owner's view, of the very incarnation.
    fn all_have_answered(&self, node: NodeNumber, epoch: ViewNumber) -> bool {
        let view = self.state.view_of(node);
        let answers = &self.state.acquisition(epoch).answers;
        (0..NODES).all(|member| view.members[member] == 0 || answers[member].incarnation == view.members[member])
    }

    fn recovered(&self, node: NodeNumber, epoch: ViewNumber) -> [Entry; GRAINS] {
        let state = self.state;
        let view = state.view_of(node);
        let mut entries = [Entry::default(); GRAINS];
        for (member, answer) in state.acquisition(epoch).answers.iter().enumerate() {
            if view.members[member] == 0 {
                continue;
            }
            for (entry, reported) in entries.iter_mut().zip(answer.hosts) {
                if reported.activation != 0 && (entry.activation == 0 || self.wins(reported, *entry)) {
                    *entry = reported;
                }
            }
        }
        entries
    }

    fn wins(&self, reported: Entry, known: Entry) -> bool {
        let higher = self.state.token(reported.activation) > self.state.token(known.activation);
        higher == self.rules.highest_token_wins
    }
}

impl State {
    fn serve(&mut self, node: NodeNumber, entries: [Entry; GRAINS]) {
        let directory = &mut self.node_mut(node).directory;
        directory.serves = Serves::Serving;
        directory.entries = entries;
    }
}
