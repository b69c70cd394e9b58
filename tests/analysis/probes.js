// What the browser tests ask of a page; functions that the tests call.
"use strict";

// [checked texts, those with too little contrast]: WCAG's ratio, 4.5, or 3 for large letters.
const lowContrast = () => {
  const parse = text => { const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number); return [r, g, b, a]; };
  const over = (top, under) => [0, 1, 2].map(i => top[3] * top[i] + (1 - top[3]) * under[i]).concat(1);
  const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b; };
  const behind = element => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]);
  };
  const found = [];
  let count = 0;
  const check = (element, style, words) => {
    const ground = behind(element), ink = over(parse(element.closest("svg") ? style.fill : style.color), ground);
    const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x), ratio = (a + .05) / (b + .05);
    const size = parseFloat(style.fontSize), isLarge = size >= 24 || (size >= 18.66 && parseInt(style.fontWeight) >= 700);
    count += 1;
    if (ratio < (isLarge ? 3 : 4.5)) found.push(`${ratio.toFixed(2)} ${element.tagName}.${element.className}: ${words}`);
  };
  const isSeen = element => element.checkVisibility() && element.getBoundingClientRect().width > 1;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, element = node.parentElement;
    if (node.data.trim() && !element.closest("script, style, option") && isSeen(element))
      check(element, getComputedStyle(element), node.data.trim().slice(0, 30));
  }
  for (const element of document.querySelectorAll("td, th button, input, select, summary")) {
    if (!isSeen(element)) continue;
    for (const part of ["::before", "::after", "::placeholder"]) {
      const style = getComputedStyle(element, part);
      const isThere = part === "::placeholder" ? element.placeholder : !["none", "normal"].includes(style.content);
      if (isThere) check(element, style, part);
    }
    if (["INPUT", "SELECT"].includes(element.tagName)) check(element, getComputedStyle(element), "control");
  }
  return [count, found];
};

// [letters in figures, those that a figure's edge cuts].
const cutLetters = () => {
  const texts = [...document.querySelectorAll("figure svg text")].filter(text => text.checkVisibility());
  const isCut = text => {
    const own = text.getBoundingClientRect(), edge = text.ownerSVGElement.getBoundingClientRect();
    return own.left < edge.left - 1 || own.right > edge.right + 1 || own.top < edge.top - 1 || own.bottom > edge.bottom + 1;
  };
  return [texts.length, texts.filter(isCut).map(text => text.textContent)];
};

// Of what stands in no box that scrolls: the elements that reach over the right edge.
const overflowing = () => [...document.querySelectorAll("body *")]
  .filter(one => one.checkVisibility() && !one.closest(".scroll, .drawing, .skip, script"))
  .filter(one => one.getBoundingClientRect().right > innerWidth + 1)
  .map(one => `${one.tagName}: ${one.textContent.trim().slice(0, 30)}`);

const openAll = () => document.querySelectorAll("details").forEach(one => { one.open = true; });

const enter = (selector, value, kind) => {
  const control = document.querySelector(selector);
  control.value = value;
  control.dispatchEvent(new Event(kind));
};
const shownRows = selector => [...document.querySelectorAll(`${selector} tbody tr:not([hidden])`)].map(row => row.dataset.method);
