# What is in the environment `d`, as data. Of a shell: what it is given. Of what only gathers others, such as
# `python3.withPackages`: those (`paths` is a list of derivations, `pkgs` nixpkgs' JSON of store paths). Any other
# package is itself.
d:
let
  try = value: default:
    let tried = builtins.tryEval (builtins.deepSeq value value);
    in if tried.success then tried.value else default;

  derivations = x:
    if builtins.isList x then builtins.concatMap derivations x
    else if builtins.isAttrs x && x ? drvPath && x ? name then [ x ]
    else [ ];

  licences = x:
    if builtins.isList x then builtins.concatMap licences x
    else if builtins.isAttrs x then [ (x.spdxId or x.shortName or x.fullName or "") ]
    else if builtins.isString x then [ x ]
    else [ ];

  named = name:
    let parsed = builtins.parseDrvName name;
    in { inherit (parsed) name version; licences = [ ]; };

  # /nix/store/<32 characters>-name
  nameOf = path: builtins.substring 33 (-1) (baseNameOf path);

  itself = p:
    let parsed = named p.name;
    in {
      name = p.pname or parsed.name;
      version = p.version or parsed.version;
      licences = try (licences (p.meta.license or [ ])) [ ];
    };

  gathered = p:
    if builtins.isString (p.pkgs or null)
    then
      map (path: named (nameOf path))
        (builtins.concatMap (each: each.paths) (builtins.fromJSON (builtins.unsafeDiscardStringContext p.pkgs)))
    else builtins.concatMap packages (derivations (p.paths or [ ]));

  packages = p:
    let inside = try (gathered p) [ ];
    in if inside == [ ] then [ (itself p) ] else inside;

  inputs = [ "nativeBuildInputs" "buildInputs" "propagatedNativeBuildInputs" "propagatedBuildInputs" ];
in
if builtins.isAttrs d && d ? drvPath && d ? outPath then {
  derivation = d.drvPath;
  output = d.outPath;
  itself = packages d;
  given = builtins.concatMap packages (builtins.concatMap (name: derivations (d.${name} or [ ])) inputs);
} else null
