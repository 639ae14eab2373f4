/* The chat page: what comes in room chat is written to .record, what is typed in #txt is sent. */
(function () {
  'use strict';
  var page = Longshore.page;
  var record = Longshore.byId('record');
  var input = Longshore.byId('txt');
  var sent = {};               // ids of what this page sent; with a login, from is the account and not page.name

  function write(bubble) {
    var atEnd = record.scrollHeight - record.scrollTop - record.clientHeight < 60;
    var empty = Longshore.byId('record-empty');
    if (empty) { empty.parentNode.removeChild(empty); }
    record.appendChild(bubble);
    if (atEnd) { record.scrollTop = record.scrollHeight; }
  }

  function show(message) {
    if (message.kind !== 'message') { return; }
    var mine = sent[message.id] || message.from === page.name;
    var bubble = Longshore.element('p', { 'class': mine ? 'bubble mine' : 'bubble', 'data-id': message.id });
    if (message.from && !mine) { bubble.appendChild(Longshore.element('span', { 'class': 'who', text: message.from })); }
    bubble.appendChild(document.createTextNode(String(message.data)));
    write(bubble);
  }

  /* The answer to a message that was sent may come after the message itself. */
  function claim(id) {
    sent[id] = true;
    var bubble = record.querySelector('[data-id="' + id + '"]');
    if (!bubble) { return; }
    bubble.className = 'bubble mine';
    var who = bubble.querySelector('.who');
    if (who) { bubble.removeChild(who); }
  }

  Longshore.byId('composer').addEventListener('submit', function (event) {
    event.preventDefault();
    var content = input.value;
    if (!content) { return; }
    input.value = '';
    Longshore.request('POST', '/send_msg/', { form: { content: content, room: 'chat', name: page.name } }, function (error, answer) {
      if (!error) { return claim(answer && answer.id); }
      if (!input.value) { input.value = content; }       // nothing typed is lost
      Longshore.toast(error.status ? error.message : Longshore.text('js.chat.failed'));
    });
    input.focus();
  });

  Longshore.subscribe({
    rooms: ['chat'],
    client: page.name,
    after: page.cursor,
    onState: Longshore.showLive,
    onMessage: show,
    onGap: function () { write(Longshore.element('p', { 'class': 'hint', text: Longshore.text('js.chat.gap') })); }
  });
}());
