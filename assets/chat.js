/* The chat page: what comes in its room is written to .record, what is typed in #txt is sent, and who is
   here is shown. */
(function () {
  'use strict';
  var page = Longshore.page;
  var shownAs = page.account || page.name;
  var record = Longshore.byId('record');
  var people = Longshore.byId('people');
  var input = Longshore.byId('txt');
  var shown = {};              // ids on the page: what came between the page's cursor and its messages comes twice

  function toEnd() { record.scrollTop = record.scrollHeight; }

  function write(bubble) {
    var atEnd = record.scrollHeight - record.scrollTop - record.clientHeight < 60;
    var empty = Longshore.byId('record-empty');
    if (empty) { empty.parentNode.removeChild(empty); }
    record.appendChild(bubble);
    if (atEnd) { toEnd(); }
  }

  function show(message) {
    var mine = message.from === shownAs;
    if (message.kind !== 'message' || shown[message.id]) { return; }
    shown[message.id] = true;
    var bubble = Longshore.element('p', { 'class': mine ? 'bubble mine' : 'bubble', 'data-id': message.id });
    if (message.from && !mine) { bubble.appendChild(Longshore.element('span', { 'class': 'who', text: message.from })); }
    bubble.appendChild(document.createTextNode(String(message.data)));
    write(bubble);
  }

  function person(one) {
    var isYou = one.name === shownAs && one.account === !!page.account;
    var name = isYou ? one.name + ' (' + Longshore.text('js.chat.you') + ')' : one.name;
    var looks = (one.account ? 'account-person' : '') + (isYou ? ' you' : '');
    return Longshore.element('li', { 'class': looks, title: one.name, text: name });
  }

  function showHere(here) {
    Longshore.byId('here-title').textContent = Longshore.text('js.chat.here', { n: here.count });
    Longshore.clear(people);
    if (!here.people) { return people.appendChild(Longshore.element('li', { text: Longshore.text('js.chat.more') })); }
    here.people.forEach(function (one) { people.appendChild(person(one)); });
  }

  Longshore.byId('composer').addEventListener('submit', function (event) {
    event.preventDefault();
    var content = input.value;
    if (!content) { return; }
    input.value = '';
    Longshore.request('POST', '/send_msg/', { form: { content: content, room: page.room, name: page.name } }, function (error) {
      if (!error) { return; }
      if (!input.value) { input.value = content; }       // nothing typed is lost
      Longshore.toast(error.status ? error.message : Longshore.text('js.chat.failed'));
    });
    input.focus();
  });

  // So that this browser is asked for no name again, and told of no namesake that is itself.
  document.cookie = 'longshore_name=' + encodeURIComponent(page.name) + '; path=/; max-age=31536000; samesite=lax';
  page.messages.forEach(function (message) { shown[message.id] = true; });
  showHere(page.here);
  toEnd();

  Longshore.subscribe({
    rooms: [page.room, 'presence/' + page.room],
    client: page.name,
    after: page.cursor,
    onState: Longshore.showLive,
    onMessage: function (message) {
      if (message.kind === 'presence') { showHere(message.data); } else { show(message); }
    },
    onGap: function () { write(Longshore.element('p', { 'class': 'hint', text: Longshore.text('js.chat.gap') })); }
  });
}());
