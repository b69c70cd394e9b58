from analysis.contrasts.command import main

raise SystemExit(main())
