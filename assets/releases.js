/* The list of releases, live: a known row's badge changes at once, a new one comes with the list. */
(function () {
  'use strict';
  var waiting = null;

  function refreshSoon() {
    if (waiting) { return; }
    waiting = window.setTimeout(function () {
      waiting = null;
      Longshore.refresh(['release-rows']);
    }, 400);
  }

  function rowOf(id) {
    var rows = document.querySelectorAll('[data-release]');
    for (var i = 0; i < rows.length; i += 1) {
      if (rows[i].getAttribute('data-release') === String(id)) { return rows[i]; }
    }
    return null;
  }

  Longshore.subscribe({
    rooms: ['releases'],
    after: Longshore.page.cursor,
    onState: Longshore.showLive,
    onGap: refreshSoon,
    onMessage: function (message) {
      if (message.kind !== 'release' || !message.data) { return; }
      var row = rowOf(message.data.id);
      if (row && message.data.state && row.getAttribute('data-state') !== message.data.state) {
        row.setAttribute('data-state', message.data.state);
        Longshore.setBadge(row.querySelector('.badge'), message.data.state);
      }
      refreshSoon();
    }
  });
}());
