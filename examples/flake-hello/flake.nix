{
  description = "A tool of this repository's own, for everybody who works in it";

  # No inputs: nothing is downloaded. An everyday flake takes its packages from nixpkgs; `studiolo env init --flake`
  # writes one that does.

  outputs = { self }:
    let
      each = make: builtins.listToAttrs (map (name: { inherit name; value = make name; }) [
        "x86_64-linux"
        "aarch64-linux"
      ]);
    in {
      packages = each (system: {
        default = derivation {
          name = "tally-1.0";
          inherit system;
          # Nix's own builder, which links what a folder holds into the result; it needs no compiler and no shell.
          builder = "builtin:buildenv";
          derivations = "true 5 1 ${./tools}"; # active, priority, one output, from this folder
          manifest = "/dev/null";
        };
      });
    };
}
