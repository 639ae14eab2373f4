/* Times in the reader's own zone and words, durations that tick while something runs. */
(function () {
  'use strict';
  var MINUTE = 60;
  var HOUR = 3600;
  var DAY = 86400;

  function two(number) { return (number < 10 ? '0' : '') + number; }

  function clock(date) {
    return date.getFullYear() + '-' + two(date.getMonth() + 1) + '-' + two(date.getDate()) + ' ' +
      two(date.getHours()) + ':' + two(date.getMinutes());
  }

  function since(date) {
    var seconds = Math.max(0, (Date.now() - date.getTime()) / 1000);
    if (seconds < MINUTE) { return Longshore.text('js.time.now'); }
    if (seconds < HOUR) { return Longshore.text('js.time.minutes', { n: Math.floor(seconds / MINUTE) }); }
    if (seconds < DAY) { return Longshore.text('js.time.hours', { n: Math.floor(seconds / HOUR) }); }
    if (seconds < 7 * DAY) { return Longshore.text('js.time.days', { n: Math.floor(seconds / DAY) }); }
    return clock(date);
  }

  function duration(seconds) {
    var whole = Math.max(0, Math.round(seconds));
    if (whole < MINUTE) { return Longshore.text('js.duration.seconds', { seconds: whole }); }
    return Longshore.text('js.duration.minutes', { minutes: Math.floor(whole / MINUTE), seconds: whole % MINUTE });
  }

  function each(selector, apply) {
    Array.prototype.forEach.call(document.querySelectorAll(selector), apply);
  }

  /* Writes every time and duration on the page; called again after a part of it was swapped. */
  function show() {
    each('time[datetime]', function (element) {
      var date = new Date(element.getAttribute('datetime'));
      if (isNaN(date.getTime())) { return; }
      element.title = clock(date);
      element.textContent = element.hasAttribute('data-clock') ? clock(date) : since(date);
    });
    tick();
  }

  function tick() {
    each('.duration[data-since]', function (element) {
      var began = new Date(element.getAttribute('data-since')).getTime();
      if (!isNaN(began)) { element.textContent = duration((Date.now() - began) / 1000); }
    });
  }

  Longshore.times = show;
  Longshore.duration = duration;
  show();
  window.setInterval(tick, 1000);
  window.setInterval(show, 30000);
}());
