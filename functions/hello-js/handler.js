// A function in JavaScript, with the standard `fetch` event: nothing here is Quern's own. It says
// hello, echoes, and shows what becomes of a function that throws, loops or takes memory.

async function answer(request) {
  const path = new URL(request.url).pathname;
  switch (path) {
    case "/echo":
      return new Response(await request.text());
    case "/throw":
      throw new Error("the millstone cracked");
    case "/loop":
      for (;;);
    case "/grow": {
      const taken = [];
      for (;;) taken.push(new Uint8Array(1 << 20).fill(1));
    }
    default:
      return new Response("hello from JavaScript\n");
  }
}

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));
