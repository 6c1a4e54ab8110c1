// GraphiQL over this server: queries and mutations by POST, subscriptions over graphql-transport-ws.
// The token lives in this tab's sessionStorage, nowhere else, and never in a URL.
"use strict";

(function () {
  const KEY = "longshore-token";
  const FIRST_QUERY = `# Longshore's API. Give the token above, then press the play button.
# Ctrl-Space completes; the book on the left is the documentation.

query Deployments {
  deployments(first: 20) {
    nodes { name status statusDetail url node { name } }
  }
  nodes { name status detail }
}

# subscription Steps { deploymentStatus { revision seq status detail at } }
`;

  const form = document.getElementById("sign-in");
  const input = document.getElementById("token");
  const state = document.getElementById("state");
  const root = ReactDOM.createRoot(document.getElementById("graphiql"));
  let webSocket = null;
  let generation = 0;

  const token = () => sessionStorage.getItem(KEY) || "";

  function withToken(url, options) {
    const headers = new Headers(options.headers);
    headers.set("Authorization", "Bearer " + token());
    return fetch(url, { ...options, headers, credentials: "omit" }).then((response) => {
      state.textContent = response.status === 401 ? "The server does not know this token." : "";
      return response;
    });
  }

  function connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    return graphqlWs.createClient({
      url: scheme + "//" + location.host + "/graphql",
      connectionParams: () => ({ Authorization: "Bearer " + token() }),
      retryAttempts: 0,
    });
  }

  function render() {
    if (webSocket) webSocket.dispose();
    webSocket = connect();
    // A new key makes GraphiQL ask for the schema again, as whoever signs in now.
    generation += 1;
    const fetcher = GraphiQL.createFetcher({ url: "/graphql", fetch: withToken, wsClient: webSocket });
    root.render(
      React.createElement(GraphiQL, {
        key: generation,
        fetcher,
        defaultQuery: FIRST_QUERY,
        isHeadersEditorEnabled: false,
        shouldPersistHeaders: false,
      })
    );
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEY, input.value.trim());
    input.value = "";
    render();
  });
  document.getElementById("forget").addEventListener("click", () => {
    sessionStorage.removeItem(KEY);
    state.textContent = "";
    render();
  });

  if (!token()) state.textContent = "Not signed in.";
  render();
})();
