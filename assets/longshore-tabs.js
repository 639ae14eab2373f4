/* Tabs of one browser share one connection: browsers open six to a server, and a held poll or an event stream takes
   one. Loaded after longshore.js; without it each tab connects for itself.

   One tab leads, and follows every tab's rooms from the oldest tab's cursor on. The others have it as their
   transport, 'tab', which is proved, watched and left like any other: a leader that does not answer holds up nobody.
   Each tab keeps its own cursor, so whoever leads next loses nothing. Only tabs with the same server, transports,
   client name and Longshore.share (our pages: the account) share.

   Packets: join, ping, leave {rooms, after, isSeen} to the leader; lead, pong, state, batch {rooms, from, reply} to
   the others. A batch holds all of its rooms' messages after number from up to its reply's cursor. */
(function () {
  'use strict';

  var LEASE_MS = 4000;            // a leader whose lease is older is gone
  var SETTLE_MS = 100;            // for tabs that take the lease at the same moment
  var GATHER_MS = 30;             // tabs that join together are taken together
  var MEMBER_MS = 150000;         // a tab that was silent so long is gone; hidden ones may speak once a minute
  var AGAIN_MS = 600000;          // before a leader that did not answer is asked again, or serves after a refusal
  var MOST_ROOMS = 32;            // the server takes no more for one client
  var within = Longshore.within;
  var number = Longshore.number;
  var epoch = Longshore.epoch;
  var isAfter = Longshore.isAfter;

  /* Lets tabs talk: post(packet), hear(packet) with the others' packets; and choose one: lead(whether this one).
     Where there are no Web Locks (plain http, old browsers), a lease in localStorage says who leads.
     Null where neither is. */
  function Bus(name, hear, lead, stored) {
    return window.BroadcastChannel && navigator.locks ? ByLocks(name, hear, lead) : ByStorage(name, hear, lead, stored);
  }

  function ByLocks(name, hear, lead) {
    var channel = new window.BroadcastChannel(name);
    var isClosed = false;
    var release = null;
    channel.onmessage = function (event) { if (!isClosed) { hear(event.data); } };
    navigator.locks.request(name, function () {
      if (isClosed) { return null; }
      lead(true);
      return { then: function (done) { release = done; } };      // the lock is held until then
    }).then(null, function () { /* none in this kind of page: never to lead is safe */ });
    return {
      post: function (packet) { channel.postMessage(packet); },
      close: function () {
        isClosed = true;
        channel.close();
        if (release) { release(); }
      }
    };
  }

  function ByStorage(name, hear, lead, stored) {
    var id = Longshore.unique();
    var isLeader = false;
    var mail = name + ' mail';
    var timer, soon;

    function campaign() {
      var held = stored(name);
      var now = Date.now();
      var isMine = held && held.id === id;
      if (isMine !== isLeader && (isMine || held)) {             // nobody wrote after this tab, or somebody did
        isLeader = isMine;
        return lead(isMine);
      }
      if (!isLeader && held && Math.abs(now - held.at) < LEASE_MS) { return; }
      stored(name, { id: id, at: now });
      if (!isLeader) { soon = setTimeout(campaign, SETTLE_MS); }
    }

    function onStorage(event) {
      if (event.key === name && !event.newValue) { campaign(); }
      var letter = event.key === mail && event.newValue ? JSON.parse(event.newValue) : null;
      if (letter && letter.packet && letter.from !== id) { hear(letter.packet); }  // IE tells the writer too
    }

    if (!stored(mail, { from: id })) { return null; }
    window.addEventListener('storage', onStorage);
    timer = setInterval(campaign, LEASE_MS / 4);
    soon = setTimeout(campaign, 0);
    return {
      post: function (packet) { stored(mail, { from: id, packet: packet, n: Longshore.unique() }); },
      close: function () {
        window.removeEventListener('storage', onStorage);
        clearInterval(timer);
        clearTimeout(soon);
        if (isLeader) { localStorage.removeItem(name); }
      }
    };
  }

  /* What subscribe asks of the other tabs; link is its own state. Null where tabs cannot share. */
  Longshore.tabs = function (link, stored) {
    var id = Longshore.unique();
    var mine = link.options.rooms;
    var share = link.options.share === undefined ? Longshore.share || '' : link.options.share;
    var leads = false;
    var isReady = false;          // a leader serves once it has a cursor
    var members = {};
    var silentUntil = 0;
    var aloneUntil = 0;
    var bus = null;
    var gather;

    function others() { return Object.keys(members); }

    function say(type) {
      bus.post({ type: type, from: id, rooms: mine, after: link.cursor, isSeen: !document.hidden });
    }

    function unite() {
      var all = mine.slice();
      others().forEach(function (key) {
        if (Date.now() - members[key].heard > MEMBER_MS) { delete members[key]; } else { all = all.concat(members[key].rooms); }
      });
      return all.filter(function (room, i) { return all.indexOf(room) === i; });
    }

    function lead(isLeader) {
      clearTimeout(gather);
      leads = isLeader;
      isReady = false;
      members = {};
      link.rooms = mine;
      link.restart();
    }

    /* Until the restart, what comes still begins at the old afters: a newcomer's counts from there on. */
    function reunite() {
      clearTimeout(gather);
      gather = setTimeout(function () {
        link.rooms = unite();
        others().forEach(function (key) {
          if (members[key].isNew) { link.afters.push(members[key].after); }
          members[key].isNew = false;
        });
        link.restart();
      }, GATHER_MS);
    }

    function serve(packet) {
      var isMember = members.hasOwnProperty(packet.from);
      var wasSeen = isMember && members[packet.from].isSeen;
      if (packet.type === 'leave') {
        delete members[packet.from];
        if (isMember && unite().length < link.rooms.length) { reunite(); }
      } else if (packet.type === 'join' || isMember) {
        packet.heard = Date.now();
        if (isMember && members[packet.from].isNew) { packet.isNew = true; }
        members[packet.from] = packet;
        if (packet.type === 'join') { admit(packet); } else { bus.post({ type: 'pong', to: packet.from }); }
        if (packet.isSeen !== wasSeen) { link.wake(); }
      }
    }

    /* Without an answer the tab connects for itself. */
    function admit(packet) {
      if (Date.now() < aloneUntil || unite().length > MOST_ROOMS) {
        delete members[packet.from];
        return;
      }
      var isSameHistory = epoch(packet.after) === epoch(link.cursor);  // else the server knows
      if (isSameHistory && packet.rooms.every(within(link.rooms)) && !isAfter(number(link.cursor), number(packet.after))) {
        bus.post({ type: 'batch', rooms: link.rooms, from: number(link.cursor), reply: { cursor: link.cursor, messages: [] } });
      } else {
        packet.isNew = true;
        reunite();
      }
    }

    function follow(packet) {
      var stream = link.stream;
      if (packet.type === 'lead') {
        silentUntil = 0;
        return link.restart();
      }
      if (!stream || stream.way !== 'tab') { return; }
      if (packet.type === 'pong' && packet.to === id) { stream.frame({}); }
      if (packet.type === 'state' && link.live) { link.tell(packet.state); }
      if (packet.type !== 'batch') { return; }
      if (packet.reply.gap || (mine.every(within(packet.rooms)) && !isAfter(packet.from, number(link.cursor)))) {
        stream.frame(packet.reply, true);
      } else if (link.live) {
        stream.end();              // a hole: ask for what is missing
      }
    }

    function hear(packet) {
      if (!leads) { follow(packet); } else if (isReady && packet.after) { serve(packet); }
    }

    try {
      bus = Bus(['longshore', link.host, share, link.order, link.options.client].join(' '), hear, lead, stored);
    } catch (error) { bus = null; }
    return bus && {
      isLed: function () { return !leads && Date.now() >= silentUntil && number(link.cursor) !== ''; },
      open: function () {
        say('join');
        return { ping: function () { say('ping'); }, close: function () { if (bus) { say('leave'); } } };
      },
      ended: function (worked) { silentUntil = worked ? 0 : Date.now() + AGAIN_MS; },
      isSeen: function () { return others().some(function (key) { return members[key].isSeen; }); },
      tell: function (state) { if (leads) { bus.post({ type: 'state', state: state }); } },
      /* A reply on its way to this tab's handlers goes to the others first. */
      pass: function (reply, next) {
        if (!leads) { return; }
        var from = link.afters.map(number).reduce(function (one, two) { return isAfter(one, two) ? two : one; });
        bus.post(isReady ? {
          type: 'batch', rooms: link.rooms, from: from, reply: { cursor: next, gap: reply.gap, messages: reply.messages }
        } : { type: 'lead' });
        isReady = true;
      },
      /* A refusal may be for another tab's room: then each asks for itself. */
      refused: function () {
        if (!leads || !others().length) { return false; }
        members = {};
        link.rooms = mine;
        aloneUntil = Date.now() + AGAIN_MS;
        bus.post({ type: 'lead' });
        return true;
      },
      close: function () {
        clearTimeout(gather);
        bus.close();
        bus = null;
      }
    };
  };
}());
