/* Where the flow chart's nodes go: a left-to-right tree over d3-hierarchy 1.1.9, each layer as wide as its
   widest node. It measures and computes, and draws nothing. */
(function () {
  'use strict';
  var NODE_HEIGHT = 38;
  var ROW_HEIGHT = 54;
  var LAYER_GAP = 64;
  var FORK_GAP = 100;            // where links part, so that their texts stand beside the trunk
  var BEND = 16;                 // px after its layer at which a link turns; the rest has room for its text
  var MARGIN = 24;
  var LONGEST_TEXT = 190;        // px; longer texts end in an ellipsis

  var pen = null;
  function widthOf(text) {
    if (!pen) {
      pen = document.createElement('canvas').getContext('2d');
      pen.font = '13px "Segoe UI", Roboto, "Helvetica Neue", Arial, "PingFang SC", "Noto Sans CJK SC", sans-serif';
    }
    return pen.measureText(text).width;
  }

  function shorten(text) {
    if (widthOf(text) <= LONGEST_TEXT) { return text; }
    var length = text.length;
    while (length > 1 && widthOf(text.slice(0, length) + '…') > LONGEST_TEXT) { length -= 1; }
    return text.slice(0, length) + '…';
  }

  function widthOfNode(row) {
    var inner = widthOf(shorten(row.text)) + 46;
    return row.figure === 'Diamond' ? inner + 44 : row.figure === 'Ellipse' ? inner + 14 : inner;
  }

  /* root: {row, children} with children null or a list of the same; a root whose row is null is not placed.
     Gives {places, width, height}; a place is d3's node (data, parent, children) with left, top, width, level, and
     bend, where the link that leads to it turns. Parents come before children. */
  Longshore.flowLayout = function (data) {
    var root = d3.hierarchy(data);
    d3.tree().nodeSize([ROW_HEIGHT, 1]).separation(function () { return 1; })(root);
    var skipped = data.row ? 0 : 1;
    var places = root.descendants().filter(function (place) { return place.data.row; });
    var widest = [];
    var gaps = [];                // before each layer
    var top = Infinity;
    var bottom = -Infinity;
    places.forEach(function (place) {
      place.width = widthOfNode(place.data.row);
      place.level = place.depth - skipped;
      widest[place.level] = Math.max(widest[place.level] || 0, place.width);
      gaps[place.level] = place.level && place.parent.children.length > 1 ? FORK_GAP : gaps[place.level] || LAYER_GAP;
      top = Math.min(top, place.x);
      bottom = Math.max(bottom, place.x);
    });
    var lefts = [];
    var left = MARGIN;
    widest.forEach(function (width, level) {
      left += level ? gaps[level] : 0;
      lefts[level] = left;
      left += width;
    });
    places.forEach(function (place) {
      place.left = lefts[place.level];
      place.top = place.x - top + MARGIN;
      place.bend = place.left - gaps[place.level] + BEND;
    });
    return {
      places: places,
      width: places.length ? left + MARGIN : 0,
      height: places.length ? bottom - top + NODE_HEIGHT + 2 * MARGIN : 0
    };
  };
  Longshore.flowLayout.NODE_HEIGHT = NODE_HEIGHT;
  Longshore.flowLayout.shorten = shorten;
}());
